import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "vitest";
import { chunkHasher } from "../base/digest.ts";
import { Limiter } from "../base/limiter.ts";
import { quietLogger } from "../base/log.ts";
import { BlobCache } from "./cache.ts";
import { GROUP } from "./cache-view.ts";
import type { CachedBlob } from "./cached-blob.ts";
import type { HitCounts, HitSetup } from "./hit-worker.test-support.ts";
import { BlobReader } from "./reader.ts";
import { type CountingFetcher, fetcherOf, type SampleBlob, sampleBlob } from "./sample-blob.test-support.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nydus-evict-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Chunks as large as groups, stored as they are: what is read is what takes room. */
const CHUNKS = 16;
const sample = (seed = 1): Promise<SampleBlob> =>
  sampleBlob({ chunks: CHUNKS + 1, size: GROUP, compressor: "none", seed });

interface Opened extends Disposable {
  readonly blob: CachedBlob;
  readonly reader: BlobReader;
  readonly fetcher: CountingFetcher;
}

async function open(cache: BlobCache, from: SampleBlob): Promise<Opened> {
  const blob = cache.open(from.map);
  const fetcher = fetcherOf(from.stored);
  const reader = new BlobReader({
    blob,
    fetcher,
    hasher: await chunkHasher("sha256"),
    limiter: new Limiter(4),
    log: quietLogger,
    signal: new AbortController().signal,
  });
  return { blob, reader, fetcher, [Symbol.dispose]: () => blob[Symbol.dispose]() };
}

/** Stores chunks one by one, as if they had been fetched. */
function store(blob: CachedBlob, from: SampleBlob, chunks: readonly number[]): void {
  for (const chunk of chunks) {
    const data = from.content.subarray(chunk * GROUP, (chunk + 1) * GROUP);
    blob.store([{ chunk, data }]);
  }
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const there = (blob: CachedBlob): number[] => range(0, CHUNKS).filter((chunk) => blob.has(chunk));

test("BlobCache stays below its limit, and what was used longest ago leaves first", async () => {
  const from = await sample();
  using cache = new BlobCache(directory, { limit: 8 * GROUP });
  using opened = await open(cache, from);
  store(opened.blob, from, range(0, 8));
  await opened.reader.read(0, Buffer.alloc(10));
  store(opened.blob, from, [8, 9]);
  expect(there(opened.blob)).toEqual([0, 3, 4, 5, 6, 7, 8, 9]);
  expect(cache.usage(from.map.blobId)).toBeLessThanOrEqual(8 * GROUP);
});

test("BlobCache gives the right bytes of a blob eight times as large as its limit", async () => {
  const from = await sample();
  using cache = new BlobCache(directory, { limit: 2 * GROUP });
  using opened = await open(cache, from);
  for (let round = 0; round < 3; round++) {
    const into = Buffer.alloc(from.content.byteLength);
    await opened.reader.read(0, into);
    expect(into.equals(from.content)).toBe(true);
    expect(cache.usage(from.map.blobId)).toBeLessThanOrEqual(2 * GROUP);
  }
  expect(opened.reader.counters.uncached).toBeGreaterThan(0);
});

test("BlobCache evicts nothing of what is being read", async () => {
  const from = await sample();
  using cache = new BlobCache(directory, { limit: 4 * GROUP });
  using opened = await open(cache, from);
  store(opened.blob, from, range(0, 4));
  {
    using _held = opened.blob.hold(GROUP + 5, GROUP);
    store(opened.blob, from, [4, 5, 6]);
    expect(there(opened.blob)).toEqual(expect.arrayContaining([1, 2]));
  }
  store(opened.blob, from, range(7, 11));
  expect(there(opened.blob)).not.toContain(1);
});

test("BlobCache refuses to store rather than to pass its limit", async () => {
  const from = await sample();
  using cache = new BlobCache(directory, { limit: 4 * GROUP });
  using opened = await open(cache, from);
  store(opened.blob, from, range(0, 4));
  using _held = opened.blob.hold(0, 4 * GROUP);
  expect(() => store(opened.blob, from, [5])).toThrow(expect.objectContaining({ code: "no_space" }));
  expect(there(opened.blob)).toEqual([0, 1, 2, 3]);
});

test("BlobCache evicts whole files that nobody uses before chunks that are in use", async () => {
  const [first, second, third] = await Promise.all([sample(1), sample(2), sample(3)]);
  using cache = new BlobCache(directory, { limit: 9 * GROUP });
  for (const from of [first, second]) {
    using opened = await open(cache, from);
    store(opened.blob, from, range(0, 4));
  }
  using opened = await open(cache, third);
  store(opened.blob, third, range(0, 4));
  expect(cache.usage(first.map.blobId)).toBe(0);
  expect(cache.usage(second.map.blobId)).toBeGreaterThan(0);
  expect(there(opened.blob)).toEqual([0, 1, 2, 3]);
});

test("BlobCache punches no hole into a file that somebody else has open", async () => {
  const from = await sample();
  using cache = new BlobCache(directory, { limit: 4 * GROUP });
  using opened = await open(cache, from);
  store(opened.blob, from, range(0, 4));
  const fd = openSync(opened.blob.path, "r");
  expect(() => store(opened.blob, from, [5])).toThrow(expect.objectContaining({ code: "no_space" }));
  closeSync(fd);
  store(opened.blob, from, [5]);
  expect(there(opened.blob)).toContain(5);
});

test("an evicted chunk is fetched again by every image that shares the file", async () => {
  const from = await sample();
  using cache = new BlobCache(directory, { limit: 4 * GROUP });
  using one = await open(cache, from);
  using two = await open(cache, from);
  store(one.blob, from, range(0, 4));
  expect(two.blob.has(0)).toBe(true);
  store(one.blob, from, [4]);
  expect(two.blob.has(0)).toBe(false);
  const into = Buffer.alloc(GROUP);
  await two.reader.read(0, into);
  expect(into.equals(from.content.subarray(0, GROUP))).toBe(true);
});

test("a thread that reads while chunks leave and come back never sees a hole", async () => {
  const from = await sample();
  using cache = new BlobCache(directory);
  using opened = await open(cache, from);
  const { blob } = opened;
  store(blob, from, range(0, CHUNKS));
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const setup: HitSetup = { fd: blob.fd, view: blob.view, content: from.content, length: GROUP / 2, stop };
  const worker = new Worker(new URL("./hit-worker.test-support.ts", import.meta.url), { workerData: setup });
  const counted = once(worker, "message");
  for (let round = 0; round < 2000; round++) {
    const chunk = (round * 7) % CHUNKS;
    if (!blob.file.evict(chunk)) throw new Error("nothing was evicted");
    if (round % 3 === 0) await Bun.sleep(0);
    store(blob, from, [chunk]);
  }
  Atomics.store(stop, 0, 1);
  const [counts] = (await counted) as [HitCounts];
  await worker.terminate();
  expect(counts.wrong).toBe(0);
  expect(counts.hits).toBeGreaterThan(0);
  expect(counts.misses).toBeGreaterThan(0);
}, 60_000);
