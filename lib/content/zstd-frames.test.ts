import { constants, createZstdCompress } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ZstdFrames } from "./zstd-frames.ts";

function complete(bytes: Uint8Array, piece = bytes.byteLength): boolean {
  const frames = new ZstdFrames();
  for (let at = 0; at < bytes.byteLength; at += piece) frames.push(bytes.subarray(at, at + piece));
  return frames.complete;
}

/** With or without a checksum and a content size, as different compressors write frames. */
async function frame(bytes: Uint8Array, checksum: boolean, sized: boolean): Promise<Buffer> {
  const params = {
    [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0,
    [constants.ZSTD_c_contentSizeFlag]: sized ? 1 : 0,
  };
  const options = { params, ...(sized ? { pledgedSrcSize: bytes.byteLength } : {}) };
  const compressor = createZstdCompress(options);
  compressor.end(bytes);
  return Buffer.concat(await Array.fromAsync(compressor));
}

test("ZstdFrames is complete at the end of frames and nowhere else", async () => {
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.nat(300_000).map((n) => new Uint8Array(n)),
  );
  const parts = fc.array(fc.tuple(content, fc.boolean(), fc.boolean()), { minLength: 1, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(parts, fc.integer({ min: 1, max: 50 }), fc.nat(), async (all, piece, cut) => {
      const stored = await Promise.all(all.map(([bytes, checksum, sized]) => frame(bytes, checksum, sized)));
      const whole = Buffer.concat(stored);
      expect(complete(whole, piece)).toBe(true);
      const end = cut % whole.byteLength;
      const ends = stored.map((_, i) => Buffer.concat(stored.slice(0, i)).byteLength);
      expect(complete(whole.subarray(0, end), piece)).toBe(ends.includes(end));
    }),
    { numRuns: 50 },
  );
});

test("ZstdFrames passes over skippable frames", () => {
  const skippable = Buffer.from("5f2a4d1804000000deadbeef", "hex");
  expect(complete(skippable)).toBe(true);
  expect(complete(skippable.subarray(0, 11))).toBe(false);
  expect(complete(Buffer.concat([skippable, Bun.zstdCompressSync(Buffer.from("x"))]), 1)).toBe(true);
});

test("ZstdFrames has no opinion about what is not zstd", () => {
  expect(complete(Buffer.from("something else"))).toBe(true);
});
