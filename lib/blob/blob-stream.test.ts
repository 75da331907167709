import fc from "fast-check";
import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { BlobStream } from "./blob-stream.ts";

const BYTES = Uint8Array.from({ length: 1000 }, (_, i) => (i * 31) & 0xff);

/** In pieces of the sizes given, over and over. */
function bodyOf(
  bytes: Uint8Array,
  sizes: readonly number[] = [bytes.byteLength],
): ReadableStream<Uint8Array> {
  let at = 0;
  let turn = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.byteLength) return controller.close();
      const size = sizes[turn++ % sizes.length] ?? 1;
      controller.enqueue(bytes.slice(at, at + size));
      at += size;
    },
  });
}

test("BlobStream gives any ranges in the order of their starts, and the digest of everything", async () => {
  const ranges = fc.array(fc.tuple(fc.nat(999), fc.nat(300)), { maxLength: 20 });
  const sizes = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(ranges, sizes, async (wanted, pieces) => {
      await using stream = new BlobStream(bodyOf(BYTES, pieces));
      for (const [start, size] of wanted.sort(([a], [b]) => a - b)) {
        const end = Math.min(start + size, BYTES.byteLength);
        expect(Buffer.from(await stream.take(start, end - start))).toEqual(
          Buffer.from(BYTES.slice(start, end)),
        );
      }
      expect(await stream.finish()).toEqual({ digest: digestOf(BYTES), size: BYTES.byteLength });
    }),
    { numRuns: 200 },
  );
});

test("BlobStream says where a body ends too early", async () => {
  await using stream = new BlobStream(bodyOf(BYTES, [7]));
  await expect(stream.take(990, 11)).rejects.toMatchObject({
    code: "corrupt",
    message: "Cannot read 11 bytes at 990: the blob ends at 1000",
  });
});
