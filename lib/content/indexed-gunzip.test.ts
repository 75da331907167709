import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Inflater, MAX_MATCH } from "../base/inflate.ts";
import type { Checkpoint } from "./checkpoints.ts";
import { IndexedGunzip } from "./indexed-gunzip.ts";

async function* cut(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

async function decode(file: Uint8Array, size = 60_000): Promise<{ gunzip: IndexedGunzip; data: Buffer }> {
  const gunzip = new IndexedGunzip(cut(file, size), '"x"');
  return { gunzip, data: Buffer.concat(await Array.fromAsync(gunzip.pieces())) };
}

/** Decodes `length` bytes from a checkpoint, given no more of the file than `end`. */
function enter(
  file: Uint8Array,
  { inOffset, bits, previousByte, window }: Checkpoint,
  end: number,
  length: number,
) {
  const out = new Uint8Array(window.byteLength + length + MAX_MATCH);
  out.set(window);
  const inflater = new Inflater(out, window.byteLength, window.byteLength + length);
  inflater.prime(previousByte, bits);
  inflater.feed(file.subarray(inOffset, end), true);
  while (inflater.step() === "block");
  return Buffer.from(out.subarray(window.byteLength, window.byteLength + length));
}

/** Compresses to about a third, with matches over any distance. */
function sample(size: number): Buffer {
  const out = Buffer.alloc(size);
  let state = 1;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    out[i] = i > 40_000 && state >>> 28 > 3 ? (out[i - 1 - ((i >>> 9) % 30_000)] ?? 0) : state >>> 24;
  }
  return out;
}

const data = sample(6_000_000);
const file = gzipSync(data);

describe("IndexedGunzip", () => {
  test("gives the data, however the file arrives", async () => {
    for (const size of [1000, 65_536, 10_000_000])
      expect((await decode(file, size)).data.equals(data)).toBe(true);
  });

  test("can be entered at each checkpoint, with the input it says", async () => {
    const { gunzip } = await decode(file);
    expect(gunzip.checkpoints.length).toBeGreaterThan(4);
    expect(gunzip.checkpoints.some(({ bits }) => bits !== 0)).toBe(true);
    for (const checkpoint of gunzip.checkpoints) {
      const { outOffset } = checkpoint;
      const length = Math.min(700_001, data.length - outOffset);
      const end = gunzip.inputFor(outOffset + length);
      expect(enter(file, checkpoint, end, length).equals(data.subarray(outOffset, outOffset + length))).toBe(
        true,
      );
      expect(gunzip.inputBefore(outOffset)).toBeLessThanOrEqual(checkpoint.inOffset);
    }
  });

  test("keeps of a window only what is copied from", async () => {
    const repeated = Buffer.concat(Array.from({ length: 40 }, () => sample(100_000).subarray(0, 90_000)));
    const { gunzip } = await decode(gzipSync(repeated));
    for (const { window } of gunzip.checkpoints)
      expect(window.filter((byte) => byte !== 0).length).toBeLessThan(16_000);
  });

  test("reads files of several members, padded with zeros", async () => {
    const members = [sample(10), Buffer.alloc(0), sample(2_500_000), sample(3)];
    const whole = Buffer.concat([...members.map((part) => gzipSync(part)), Buffer.alloc(100)]);
    expect((await decode(whole, 777)).data.equals(Buffer.concat(members))).toBe(true);
  });

  test("reads headers with every optional part", async () => {
    const plain = gzipSync("abc");
    const header = Buffer.from([...plain.subarray(0, 3), 0x1e, ...plain.subarray(4, 10), 2, 0, 7, 7]);
    const whole = Buffer.concat([header, Buffer.from("name\0remark\0cc"), plain.subarray(10)]);
    expect((await decode(whole, 1)).data.toString()).toBe("abc");
  });

  test.each<[string, (bytes: Buffer) => Buffer]>([
    [
      "incorrect data check",
      (bytes) => Buffer.concat([bytes.subarray(0, -8), Buffer.alloc(4), bytes.subarray(-4)]),
    ],
    ["incorrect length check", (bytes) => Buffer.concat([bytes.subarray(0, -4), Buffer.alloc(4)])],
    ["unexpected end of file", (bytes) => bytes.subarray(0, -1)],
    [
      "there is something behind the last gzip member",
      (bytes) => Buffer.concat([bytes, Buffer.from([0, 1])]),
    ],
    ["a gzip header is missing", (bytes) => Buffer.concat([bytes, Buffer.from("garbage at the end")])],
  ])("refuses a file with: %s", async (reason, change) => {
    await expect(decode(change(gzipSync(sample(5000))))).rejects.toMatchObject({
      code: "corrupt",
      message: `Cannot decompress "x": ${reason}`,
    });
  });

  test("a damaged file is an error, unless the damage is where nothing is stored", async () => {
    const small = gzipSync(sample(3000));
    await fc.assert(
      fc.asyncProperty(fc.nat(small.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const damaged = Buffer.from(small);
        damaged[at] = (damaged[at] ?? 0) ^ flip;
        // Time, system and level in the header are nobody's business.
        if (at >= 4 && at < 10) return;
        // So are the bits up to the next byte behind the head of a stored block (RFC 1951, 3.2.4).
        const outcome = await decode(damaged).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toMatchObject({ code: "corrupt" });
        else expect((outcome as { data: Buffer }).data.equals(sample(3000))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test("damage to what is stored is always an error", async () => {
    const small = gzipSync(sample(3000));
    // Behind the header and the head of the first block, before the trailer: every bit means something.
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 11, max: small.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, flip) => {
          const damaged = Buffer.from(small);
          damaged[at] = (damaged[at] ?? 0) ^ flip;
          await expect(decode(damaged)).rejects.toMatchObject({ code: "corrupt" });
        },
      ),
      { numRuns: 300 },
    );
  });
});
