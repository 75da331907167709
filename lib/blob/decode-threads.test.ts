import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Decoded, DecodeThreads, type StoredChunk } from "./decode-threads.ts";
import { sampleBlob } from "./sample-blob.test-support.ts";

const none: Decoded = { chunks: [], [Symbol.dispose]: () => {} };
let threads: DecodeThreads;
beforeEach(() => {
  threads = new DecodeThreads(2);
});
afterEach(() => threads[Symbol.asyncDispose]());

async function sample(compressor: "zstd" | "lz4_block" | "none", chunks = 12) {
  const blob = await sampleBlob({ chunks, size: 300_000, compressor });
  const { map, stored, content } = blob;
  const batch: StoredChunk[] = Array.from({ length: chunks }, (_, chunk) => {
    const at = map.compressedOffset[chunk] ?? 0;
    return { chunk, stored: stored.slice(at, at + (map.compressedLength[chunk] ?? 0)) };
  });
  const contentOf = (chunk: number): Uint8Array => {
    const at = map.uncompressedOffset[chunk] ?? 0;
    return content.slice(at, at + (map.uncompressedLength[chunk] ?? 0));
  };
  return { map, batch, contentOf };
}

test.each(["zstd", "lz4_block", "none"] as const)(
  "DecodeThreads gives the chunks of a batch, for %s",
  async (compressor) => {
    const { map, batch, contentOf } = await sample(compressor, 40);
    const decoded = await Promise.all([threads.decode(map, batch), threads.decode(map, batch.slice(3))]);
    for (const [i, skipped] of [0, 3].entries())
      for (const [at, data] of (decoded[i]?.chunks ?? []).entries())
        expect(Buffer.from(data ?? []).equals(contentOf(at + skipped))).toBe(true);
    expect(decoded[0]?.chunks).toHaveLength(40);
  },
);

test("DecodeThreads leaves out what is not what its digest says, or cannot be expanded", async () => {
  const { map, batch, contentOf } = await sample("none");
  const bad = batch.map(({ chunk, stored }) => ({ chunk, stored: stored.slice() }));
  bad[2]?.stored.fill(7, 0, 1);
  using decoded = await threads.decode(map, bad);
  expect(decoded?.chunks.map((data) => data !== undefined)).toEqual(batch.map((_, i) => i !== 2));
  expect(Buffer.from(decoded?.chunks[3] ?? []).equals(contentOf(3))).toBe(true);
});

test("DecodeThreads has only so much memory for batches, and uses it again", async () => {
  const { map, batch, contentOf } = await sample("zstd", 4);
  const held: Decoded[] = [];
  let waiting = true;
  for (let i = 0; i < 6; i++) held.push((await threads.decode(map, batch)) ?? none);
  const late = threads.decode(map, batch).then((decoded) => {
    waiting = false;
    return decoded;
  });
  await setImmediate();
  expect(waiting).toBe(true);
  const [first] = held;
  const memory = first?.chunks[0]?.buffer;
  first?.[Symbol.dispose]();
  const decoded = await late;
  expect(decoded?.chunks[0]?.buffer).toBe(memory);
  expect(Buffer.from(decoded?.chunks[3] ?? []).equals(contentOf(3))).toBe(true);
});

test("DecodeThreads leaves small batches, encrypted chunks and shared units to the caller", async () => {
  const { map, batch } = await sample("none");
  expect(await threads.decode(map, batch.slice(0, 0))).toBeUndefined();
  const cipher = { key: new Uint8Array(32), iv: new Uint8Array(16) };
  expect(await threads.decode({ ...map, cipher } as typeof map, batch)).toBeUndefined();
});
