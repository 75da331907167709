import { expect, test } from "vitest";
import { compressChunk, decompressChunk } from "../base/compression.ts";
import { sameBytes } from "../base/digest.ts";
import { ChunkQueue } from "./chunk-queue.ts";

/** Compressible, and different for each seed. */
function chunkOf(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (i % 7) + ((i * seed) >> 10));
}

test.each(["zstd", "lz4_block", "none"] as const)(
  "ChunkQueue gives %s chunks back in order, the same bytes on the pool as off it",
  async (compressor) => {
    const queue = new ChunkQueue(compressor);
    const chunks = [2 ** 20, 10, 200_000, 3, 70_000, 1].map((size, i) => chunkOf(size, i + 1));
    const stored: Uint8Array[] = [];
    for (const chunk of chunks) {
      queue.add(chunk, (form, compressed) => {
        const size = chunk.byteLength;
        expect(compressed).toBe(compressor !== "none" && form.byteLength < size);
        expect(sameBytes(compressed ? decompressChunk(compressor, form, size) : form, chunk)).toBe(true);
        stored.push(form);
      });
    }
    await queue.drain();
    expect(stored.map((form) => Buffer.from(form).toString("hex"))).toEqual(
      chunks.map((chunk) => Buffer.from(compressChunk(compressor, chunk) ?? chunk).toString("hex")),
    );
  },
);

test("ChunkQueue is full when too many bytes wait, and has room again", async () => {
  const queue = new ChunkQueue("zstd");
  let stored = 0;
  let added = 0;
  while (!queue.full) {
    queue.add(chunkOf(2 ** 20, ++added), () => stored++);
    expect(added).toBeLessThan(100);
  }
  await queue.room();
  expect(queue.full).toBe(false);
  await queue.drain();
  expect(stored).toBe(added);
});

test("ChunkQueue fails for good when storing fails", async () => {
  const queue = new ChunkQueue("zstd");
  queue.add(chunkOf(2 ** 20, 1), () => {
    throw new Error("disk full");
  });
  queue.add(chunkOf(2 ** 20, 2), () => {
    throw new Error("never reached");
  });
  await expect(queue.drain()).rejects.toThrow("disk full");
  await expect(queue.room()).rejects.toThrow("disk full");
  expect(queue.full).toBe(true);
});
