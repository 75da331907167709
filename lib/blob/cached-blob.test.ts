/**
 * What happens to a view of a cache file after it was closed: its descriptor's number is soon another file's.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { chunkHasher } from "../base/digest.ts";
import { BlobCache } from "./cache.ts";
import { readReady } from "./cache-view.ts";
import type { CachedBlob, FetchedChunk } from "./cached-blob.ts";
import { sampleBlob } from "./sample-blob.test-support.ts";

const CHUNKS = 4;
const SIZE = 20_000;

async function open(): Promise<{ readonly blob: CachedBlob; readonly chunks: readonly FetchedChunk[] }> {
  const directory = mkdtempSync(join(tmpdir(), "nydus-cached-"));
  const { map, content } = await sampleBlob({ chunks: CHUNKS, size: SIZE });
  const cache = new BlobCache(join(directory, "cache"));
  onTestFinished(() => {
    cache[Symbol.dispose]();
    rmSync(directory, { recursive: true });
  });
  const chunks = Array.from({ length: CHUNKS }, (_, chunk) => {
    const start = map.uncompressedOffset[chunk] ?? 0;
    return { chunk, data: content.subarray(start, start + (map.uncompressedLength[chunk] ?? 0)) };
  });
  return { blob: cache.open(map), chunks };
}

test("a closed view reads and writes nothing", async () => {
  const { blob, chunks } = await open();
  blob.store(chunks);
  const hasher = await chunkHasher("sha256");
  blob[Symbol.dispose]();
  expect(() => blob.store(chunks)).toThrow("not mounted any more");
  expect(() => blob.read(0, new Uint8Array(10))).toThrow("not mounted any more");
  expect(() => blob.check(0, hasher, "all")).toThrow("not mounted any more");
  expect(() => blob.recheck(0, hasher)).toThrow("not mounted any more");
});

test("a thread that knows a view for longer than it is open sees misses, also in the middle of a hit", async () => {
  const { blob, chunks } = await open();
  blob.store(chunks);
  expect(readReady(blob.view, 0, SIZE, () => true)).toBe(true);
  const closesMeanwhile = (): boolean => {
    blob[Symbol.dispose]();
    return true;
  };
  expect(readReady(blob.view, 0, SIZE, closesMeanwhile)).toBe(false);
  expect(readReady(blob.view, 0, SIZE, () => true)).toBe(false);
});
