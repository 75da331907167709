import { expect, test } from "vitest";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { type Prefetchable, prefetch } from "./prefetcher.ts";
import { sampleBlob } from "./sample-blob.test-support.ts";

class FakeReader implements Prefetchable {
  readonly runs: (readonly number[])[] = [];
  readonly blob: { readonly map: ChunkMap; has(chunk: number): boolean };
  readonly cached = new Set<number>();
  busy = Promise.resolve();
  after: () => void = () => {};

  constructor(map: ChunkMap) {
    this.blob = { map, has: (chunk) => this.cached.has(chunk) };
  }

  async prefetch(run: readonly number[]): Promise<void> {
    this.runs.push(run);
    this.after();
  }

  quiet(): Promise<void> {
    return this.busy;
  }
}

async function reader(): Promise<FakeReader> {
  const { map } = await sampleBlob({ chunks: 40, size: 8192, compressor: "none" });
  return new FakeReader(map);
}

const chunks = (...numbers: number[]) => numbers.map((chunk) => ({ blob: 0, chunk }));
const going = { signal: new AbortController().signal };

test("prefetch() joins neighbours, bridges small gaps, and begins with what is needed first", async () => {
  const one = await reader();
  await prefetch([one], chunks(30, 3, 1, 31), going);
  expect(one.runs).toEqual([
    [30, 31],
    [1, 2, 3],
  ]);
});

test("prefetch() leaves out what is in the cache", async () => {
  const one = await reader();
  for (const chunk of [1, 2, 3]) one.cached.add(chunk);
  await prefetch([one], chunks(1, 2, 3, 20), going);
  expect(one.runs).toEqual([[20]]);
});

test("prefetch() starts nothing while a reader waits", async () => {
  const one = await reader();
  const { promise, resolve } = Promise.withResolvers<void>();
  one.busy = promise;
  const done = prefetch([one], chunks(1), going);
  await Bun.sleep(5);
  expect(one.runs).toEqual([]);
  resolve();
  await done;
  expect(one.runs).toEqual([[1]]);
});

test("prefetch() stops when nobody needs it any more", async () => {
  const one = await reader();
  const stop = new AbortController();
  one.after = () => stop.abort();
  await prefetch([one], chunks(0, 10, 20, 30, 39), { signal: stop.signal });
  expect(one.runs.length).toBeLessThan(5);
});
