import {
  closeSync,
  cpSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { chunkHasher } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import { quietLogger } from "../base/log.ts";
import type { Fetcher } from "../content/content.ts";
import { BlobCache } from "./cache.ts";
import { BlobReader, type BlobReaderOptions } from "./reader.ts";
import { fetcherOf, type SampleBlob, sampleBlob } from "./sample-blob.test-support.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nydus-cache-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function open(
  sample: SampleBlob,
  fetcher: Fetcher,
  cache: BlobCache,
  more: Partial<BlobReaderOptions> = {},
): Promise<BlobReader & Disposable> {
  const blob = cache.open(sample.map);
  const reader = new BlobReader({
    blob,
    fetcher,
    hasher: await chunkHasher(sample.map.digester),
    limiter: new Limiter(4),
    log: quietLogger,
    signal: new AbortController().signal,
    ...more,
  });
  return Object.assign(reader, { [Symbol.dispose]: () => blob[Symbol.dispose]() });
}

async function read(reader: BlobReader, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length, 0xee);
  await reader.read(offset, into);
  return into;
}

test("BlobReader.read() gives the content of any range, for every compressor", async () => {
  for (const compressor of ["zstd", "lz4_block", "none"] as const) {
    const sample = await sampleBlob({ chunks: 7, size: 9000, compressor });
    await fc.assert(
      fc.asyncProperty(fc.nat(sample.content.byteLength - 1), fc.nat(40000), async (offset, length) => {
        using cache = new BlobCache(mkdtempSync(join(directory, "c")));
        using reader = await open(sample, fetcherOf(sample.stored), cache);
        const end = Math.min(offset + length, sample.content.byteLength);
        expect((await read(reader, offset, end - offset)).equals(sample.content.subarray(offset, end))).toBe(
          true,
        );
      }),
      { numRuns: 20 },
    );
  }
});

test("BlobReader.read() fetches a chunk once, however many readers wait for it", async () => {
  const sample = await sampleBlob({ chunks: 3, size: 8192 });
  const fetcher = fetcherOf(sample.stored);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  const all = await Promise.all(Array.from({ length: 20 }, () => read(reader, 0, 8192)));
  expect(fetcher.ranges).toHaveLength(1);
  for (const one of all) expect(one.equals(sample.content.subarray(0, 8192))).toBe(true);
});

test("BlobReader.read() needs no request for what an earlier process cached", async () => {
  const sample = await sampleBlob({ chunks: 5, size: 5000 });
  {
    using cache = new BlobCache(directory);
    using reader = await open(sample, fetcherOf(sample.stored), cache);
    await read(reader, 0, sample.content.byteLength);
  }
  const fetcher = fetcherOf(sample.stored);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  expect(reader.blob.complete).toBe(true);
  expect((await read(reader, 0, sample.content.byteLength)).equals(sample.content)).toBe(true);
  expect(fetcher.ranges).toEqual([]);
});

test("BlobReader.read() asks again when a chunk arrives damaged, and never returns the damage", async () => {
  const sample = await sampleBlob({ chunks: 2, size: 8192 });
  const fetcher = fetcherOf(sample.stored);
  fetcher.damage = (bytes, request) => (request === 0 ? bytes.map((b, i) => (i === 20 ? b ^ 1 : b)) : bytes);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  expect((await read(reader, 0, 8192)).equals(sample.content.subarray(0, 8192))).toBe(true);
  expect(reader.counters.corruptChunks).toBe(1);
  // So that a source with mirrors can ask another one.
  expect(fetcher.afterDamage).toEqual([false, true]);
});

test("BlobReader.read() takes everything from one download where the source has no parts", async () => {
  const sample = await sampleBlob({ chunks: 40, size: 8192, compressor: "none" });
  const fetcher = fetcherOf(sample.stored);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  // What is there already is passed over.
  await read(reader, 8192 * 20, 100);
  await expect.poll(() => reader.counters.chunks).toBe(20);
  fetcher.ranges.splice(0);
  fetcher.wholeOnly = true;
  const starts = [0, 8192 * 39, 8192 * 7 + 100, 8192 * 20, 5];
  const all = await Promise.all(starts.map((start) => read(reader, start, 4000)));
  for (const [i, start] of starts.entries())
    expect(all[i]?.equals(sample.content.subarray(start, start + 4000))).toBe(true);
  expect(fetcher.ranges).toHaveLength(1);
  expect(reader.counters.chunks).toBe(40);
  expect(reader.blob.complete).toBe(true);
});

test("BlobReader.read() gets what a download of the whole had passed, or says why not", async () => {
  const sample = await sampleBlob({ chunks: 3, size: 8192, compressor: "none" });
  const fetcher = fetcherOf(sample.stored);
  fetcher.wholeOnly = true;
  // The first chunk is wrong once in the stream, and whenever it is asked for alone.
  fetcher.damage = (bytes, request) => (request < 3 ? bytes.map((b, i) => (i === 20 ? b ^ 1 : b)) : bytes);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  const [bad, good] = await Promise.allSettled([read(reader, 0, 100), read(reader, 16384, 100)]);
  expect(bad).toMatchObject({ status: "rejected", reason: { code: "corrupt" } });
  expect(good.status).toBe("fulfilled");
  expect((await read(reader, 0, 100)).equals(sample.content.subarray(0, 100))).toBe(true);
});

test("BlobReader.read() fails everybody when the download of the whole fails", async () => {
  const sample = await sampleBlob({ chunks: 3, size: 8192, compressor: "none" });
  const fetcher = fetcherOf(sample.stored);
  fetcher.wholeOnly = true;
  fetcher.damage = (bytes) => bytes.subarray(0, 10_000);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  const results = await Promise.allSettled([0, 8192, 16384].map((offset) => read(reader, offset, 100)));
  expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected"]);
  fetcher.damage = (bytes) => bytes;
  expect((await read(reader, 8192, 100)).equals(sample.content.subarray(8192, 8292))).toBe(true);
});

test("BlobReader.read() asks again when the request of an earlier reader, which it joined, is given up", async () => {
  const sample = await sampleBlob({ chunks: 2, size: 8192 });
  const fetcher = fetcherOf(sample.stored);
  const first = Promise.withResolvers<never>();
  const failing: Fetcher = {
    fetch: (...asked) => (asks++ === 0 ? first.promise : fetcher.fetch(...asked)),
  };
  let asks = 0;
  using cache = new BlobCache(directory);
  using reader = await open(sample, failing, cache);
  const early = read(reader, 0, 8192);
  const late = read(reader, 0, 8192);
  first.reject(new NydusError("unavailable", "Cannot read: nothing came for 60 s"));
  await expect(early).rejects.toMatchObject({ code: "unavailable" });
  expect((await late).equals(sample.content.subarray(0, 8192))).toBe(true);
});

test("BlobReader.read() gives up when nothing comes, and only then", async () => {
  const sample = await sampleBlob({ chunks: 3, size: 8192, compressor: "none" });
  const fetcher = fetcherOf(sample.stored);
  const release = Promise.withResolvers<void>();
  fetcher.gate = release.promise;
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache, { silence: 50 });
  const [first, second] = [read(reader, 0, 100), read(reader, 8192, 100)];
  await expect(first).rejects.toMatchObject({ code: "unavailable" });
  await expect(second).rejects.toThrow("nothing came for 0.05 s");
  release.resolve();
  expect((await read(reader, 0, 100)).equals(sample.content.subarray(0, 100))).toBe(true);
});

test("BlobReader.read() waits less for a source that was given up, and as usual once it gives something", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const sample = await sampleBlob({ chunks: 3, size: 8192, compressor: "none" });
  const fetcher = fetcherOf(sample.stored);
  const release = Promise.withResolvers<void>();
  fetcher.gate = release.promise;
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache, { silence: 60_000 });
  const ends = async (seconds: number): Promise<string> => {
    const outcome = read(reader, 0, 100).then(
      () => "data",
      (error: unknown) => (error as Error).message,
    );
    await vi.advanceTimersByTimeAsync(seconds * 1000);
    return await Promise.race([outcome, Promise.resolve("waits")]);
  };
  expect(await ends(61)).toContain("nothing came for 60 s");
  expect(await ends(11)).toContain("nothing came for 10 s");
  release.resolve();
  vi.useRealTimers();
  expect((await read(reader, 0, 100)).equals(sample.content.subarray(0, 100))).toBe(true);
});

test("BlobReader.read() fails with corrupt when the source keeps sending a wrong chunk, and caches nothing", async () => {
  const sample = await sampleBlob({ chunks: 1, size: 8192 });
  const fetcher = fetcherOf(sample.stored);
  fetcher.damage = (bytes) => bytes.map((b) => b ^ 0xff);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  await expect(read(reader, 0, 100)).rejects.toMatchObject({ code: "corrupt" });
  expect(reader.blob.has(0)).toBe(false);
});

test("BlobReader.read() fails when the body is cut short, and works at the next try", async () => {
  const sample = await sampleBlob({ chunks: 3, size: 8192, compressor: "none" });
  const fetcher = fetcherOf(sample.stored);
  fetcher.damage = (bytes, request) => (request === 0 ? bytes.subarray(0, 10) : bytes);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  await expect(read(reader, 0, 100)).rejects.toMatchObject({ code: "corrupt" });
  expect((await read(reader, 0, 100)).equals(sample.content.subarray(0, 100))).toBe(true);
});

test("BlobReader.read() reads what a truncated blob still holds, although reading ahead passes its end", async () => {
  const sample = await sampleBlob({ chunks: 4, size: 8192, compressor: "none" });
  const whole = fetcherOf(sample.stored);
  const truncated: Fetcher = {
    fetch: (descriptor, options) =>
      (options?.range?.end ?? 0) > 2 * 8192
        ? Promise.reject(corrupt(`Cannot read blob "${descriptor.digest}": it is too short`))
        : whole.fetch(descriptor, options),
  };
  using cache = new BlobCache(directory);
  using reader = await open(sample, truncated, cache);
  // The second reader joins a chunk that the first one only reads ahead.
  const [first, joined] = await Promise.all([read(reader, 0, 100), read(reader, 8192, 100)]);
  expect(first.equals(sample.content.subarray(0, 100))).toBe(true);
  expect(joined.equals(sample.content.subarray(8192, 8292))).toBe(true);
  await expect(read(reader, 2 * 8192, 100)).rejects.toMatchObject({ code: "corrupt" });
});

test("BlobReader.read() distrusts a copied cache and finds what is wrong in it", async () => {
  const sample = await sampleBlob({ chunks: 4, size: 4096 });
  const [first, copy] = [join(directory, "first"), join(directory, "copy")];
  {
    using cache = new BlobCache(first);
    using reader = await open(sample, fetcherOf(sample.stored), cache);
    await read(reader, 0, sample.content.byteLength);
  }
  cpSync(first, copy, { recursive: true });
  const fd = openSync(join(copy, "blobs", sample.map.blobId, "data"), "r+");
  writeSync(fd, Buffer.alloc(16), 0, 16, 4096);
  closeSync(fd);
  const fetcher = fetcherOf(sample.stored);
  using cache = new BlobCache(copy);
  using reader = await open(sample, fetcher, cache);
  expect(reader.blob.complete).toBe(false);
  expect((await read(reader, 0, sample.content.byteLength)).equals(sample.content)).toBe(true);
  // Only the damaged chunk came from the source.
  expect(reader.counters.chunks).toBe(1);
});

test("BlobCache.open() believes no claim behind a torn one", async () => {
  const sample = await sampleBlob({ chunks: 4, size: 4096 });
  {
    using cache = new BlobCache(directory);
    using reader = await open(sample, fetcherOf(sample.stored), cache);
    await read(reader, 0, sample.content.byteLength);
  }
  const claims = join(directory, "blobs", sample.map.blobId, "claims");
  truncateSync(claims, readFileSync(claims).byteLength - 5);
  const fetcher = fetcherOf(sample.stored);
  using cache = new BlobCache(directory);
  using reader = await open(sample, fetcher, cache);
  expect((await read(reader, 0, sample.content.byteLength)).equals(sample.content)).toBe(true);
  expect(reader.counters.chunks).toBe(1);
});

test("BlobCache.open() gives an image that describes a blob differently a file of its own", async () => {
  const sample = await sampleBlob({ chunks: 2, size: 8192, compressor: "none" });
  // The same stored bytes, but the second chunk is said to lie where the first one is.
  const { map } = sample;
  const liar: SampleBlob = {
    ...sample,
    map: {
      ...map,
      count: 1,
      uncompressedOffset: Float64Array.of(0),
      uncompressedLength: Uint32Array.of(4096),
      compressedOffset: Float64Array.of(8192),
      compressedLength: Uint32Array.of(4096),
      compressed: Uint8Array.of(0),
      digests: map.digests.slice(32),
    },
  };
  using cache = new BlobCache(directory);
  using bad = await open(liar, fetcherOf(sample.stored), cache);
  await read(bad, 0, 4096);
  using good = await open(sample, fetcherOf(sample.stored), cache);
  expect(good.blob.path).not.toBe(bad.blob.path);
  expect((await read(good, 0, 8192)).equals(sample.content.subarray(0, 8192))).toBe(true);
});

test("BlobCache.open() shares a file among images that agree", async () => {
  const sample = await sampleBlob({ chunks: 3, size: 8192 });
  using cache = new BlobCache(directory);
  using one = await open(sample, fetcherOf(sample.stored), cache);
  const fetcher = fetcherOf(sample.stored);
  using two = await open(sample, fetcher, cache);
  await read(one, 0, sample.content.byteLength);
  expect((await read(two, 0, sample.content.byteLength)).equals(sample.content)).toBe(true);
  expect(fetcher.ranges).toEqual([]);
});

test("BlobCache.open() works while another process holds the blob's files", async () => {
  const sample = await sampleBlob({ chunks: 2, size: 4096 });
  using first = new BlobCache(directory);
  using second = new BlobCache(directory);
  using third = new BlobCache(directory);
  const readers = [];
  for (const cache of [first, second, third])
    readers.push(await open(sample, fetcherOf(sample.stored), cache));
  expect(new Set(readers.map((reader) => reader.blob.path)).size).toBe(3);
  for (const reader of readers) {
    expect((await read(reader, 0, 4096)).equals(sample.content.subarray(0, 4096))).toBe(true);
    reader[Symbol.dispose]();
  }
});
