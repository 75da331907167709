import fc from "fast-check";
import { expect, test } from "vitest";
import { viewOf } from "../base/struct.ts";
import {
  type ChunkInfo,
  chunkInfoFile,
  decodeChunkInfoHeader,
  ENTRY_SIZE,
  encodeChunkInfoHeader,
  encodeChunkInfos,
  writeChunkInfo,
} from "./compression-info.ts";
import { chunkInfosOf } from "./sample-blob.test-support.ts";

const NO_UNITS = { contextOffset: 0, contextSize: 0, contexts: 0 };

const chunkInfo: fc.Arbitrary<ChunkInfo> = fc.record({
  compressedOffset: fc.maxSafeNat().map((n) => n % 2 ** 40),
  compressedSize: fc.integer({ min: 1, max: 2 ** 24 }),
  uncompressedOffset: fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((n) => n * 4096),
  uncompressedSize: fc.integer({ min: 1, max: 2 ** 24 }),
});

/** The layout as the format documents it, bit by bit on 64-bit words. */
function bitsOf(chunk: ChunkInfo): [bigint, bigint] {
  const bits = (value: number, from: bigint, count: bigint): bigint =>
    (BigInt(value) >> from) & ((1n << count) - 1n);
  const size = chunk.uncompressedSize - 1;
  const stored = chunk.compressedSize - 1;
  return [
    BigInt(chunk.uncompressedOffset) | (bits(size, 0n, 20n) << 44n) | (bits(size, 20n, 4n) << 8n),
    BigInt(chunk.compressedOffset) | (bits(stored, 0n, 20n) << 44n) | (bits(stored, 20n, 4n) << 40n),
  ];
}

test("encodeChunkInfos() and readChunkInfo() are inverse, and match the documented bits", () => {
  fc.assert(
    fc.property(fc.array(chunkInfo, { maxLength: 20 }), (chunks) => {
      const encoded = encodeChunkInfos(chunks);
      expect(encoded.byteLength).toBe(chunks.length * ENTRY_SIZE);
      const view = viewOf(encoded);
      for (const [i, chunk] of chunks.entries()) {
        const [first, second] = bitsOf(chunk);
        expect(view.getBigUint64(i * ENTRY_SIZE, true)).toBe(first);
        expect(view.getBigUint64(i * ENTRY_SIZE + 8, true)).toBe(second);
      }
      expect(chunkInfosOf(encoded)).toEqual(chunks);
    }),
  );
});

test("readChunkInfo() takes any bytes without losing one", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      bytes[0] = 0; // bits 0 to 7 of word 0 mean nothing
      expect(encodeChunkInfos(chunkInfosOf(bytes))).toEqual(bytes);
    }),
  );
});

test.each([
  ["an unaligned uncompressed offset", { uncompressedOffset: 512 }],
  ["an uncompressed offset of 2^44", { uncompressedOffset: 2 ** 44 }],
  ["a compressed offset of 2^40", { compressedOffset: 2 ** 40 }],
  ["an empty chunk", { uncompressedSize: 0 }],
  ["a chunk over 16 MiB", { uncompressedSize: 2 ** 24 + 1 }],
  ["a stored size of 0", { compressedSize: 0 }],
])("writeChunkInfo() refuses %s", (_, change) => {
  const chunk = { compressedOffset: 0, compressedSize: 1, uncompressedOffset: 0, uncompressedSize: 1 };
  expect(() => writeChunkInfo(new DataView(new ArrayBuffer(16)), 0, { ...chunk, ...change })).toThrow(
    "Cannot encode a chunk",
  );
});

const HEADER = {
  features: 0x7000_0023,
  compressor: "zstd",
  entries: 1346,
  offset: 2_996_255,
  compressedSize: 6112,
  uncompressedSize: 21536,
} as const;

test("decodeChunkInfoHeader() gives back what was encoded", () => {
  expect(decodeChunkInfoHeader(encodeChunkInfoHeader(HEADER))).toEqual({ ...NO_UNITS, ...HEADER });
});

test.each([0, 4095])("decodeChunkInfoHeader() refuses a header whose magic at %i is damaged", (at) => {
  const bytes = encodeChunkInfoHeader(HEADER);
  bytes[at] = 0;
  expect(() => decodeChunkInfoHeader(bytes)).toThrow("magic number is missing");
});

test("decodeChunkInfoHeader() refuses an unknown compressor and a wrong size", () => {
  const bytes = encodeChunkInfoHeader(HEADER);
  bytes[8] = 9;
  expect(() => decodeChunkInfoHeader(bytes)).toThrow("compressor 9 is not known");
  expect(() => decodeChunkInfoHeader(bytes.subarray(1))).toThrow("4095 bytes");
});

test("chunkInfoFile() pads the array to a page before the header", () => {
  const header = encodeChunkInfoHeader(HEADER);
  const file = chunkInfoFile(new Uint8Array(4112).fill(7), header);
  expect(file.byteLength).toBe(8192 + 4096);
  expect(file[4111]).toBe(7);
  expect(file[4112]).toBe(0);
  expect(file.subarray(8192)).toEqual(header);
});
