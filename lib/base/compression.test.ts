import { expect, test } from "vitest";
import { COMPRESSORS, type Compressor, compressChunk, decompressChunk } from "./compression.ts";

const text = Buffer.from("layer blob chunk bootstrap ".repeat(500));
const packing = (Object.keys(COMPRESSORS) as Compressor[]).filter((name) => name !== "none");

test("decompressChunk() undoes compressChunk() for every compressor", () => {
  for (const compressor of packing) {
    const stored = compressChunk(compressor, text);
    expect(stored?.byteLength).toBeLessThan(text.byteLength);
    expect(text.equals(decompressChunk(compressor, stored ?? new Uint8Array(), text.byteLength))).toBe(true);
  }
});

test("compressChunk() gives nothing when the result would not be smaller", () => {
  const noise = Uint8Array.from({ length: 64 }, (_, i) => (i * 151) & 255);
  for (const compressor of packing) expect(compressChunk(compressor, noise)).toBeUndefined();
});

test("decompressChunk() refuses a chunk of any other size", () => {
  for (const compressor of packing) {
    const stored = compressChunk(compressor, text) ?? new Uint8Array();
    for (const size of [text.byteLength - 1, text.byteLength + 1, 1]) {
      expect(() => decompressChunk(compressor, stored, size)).toThrow(
        expect.objectContaining({ code: "corrupt" }),
      );
    }
  }
});

test("decompressChunk() refuses frames that expand past the chunk, and what is not a frame", () => {
  const zeros = new Uint8Array(64 << 20);
  const bomb = Buffer.concat([Bun.zstdCompressSync(text), Bun.zstdCompressSync(zeros)]);
  for (const stored of [bomb, Bun.zstdCompressSync(zeros), Buffer.from("no frame at all")]) {
    expect(() => decompressChunk("zstd", stored, text.byteLength)).toThrow(
      expect.objectContaining({ code: "corrupt" }),
    );
  }
});
