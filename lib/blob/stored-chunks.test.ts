import { expect, test } from "vitest";
import { corrupt } from "../base/error.ts";
import type { Fetcher } from "../content/content.ts";
import { streamOf } from "../content/verified.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { type ChunkPlace, type StoredChunkOptions, storedChunks } from "./stored-chunks.ts";

const BLOB = "a".repeat(64);
const OTHER = "b".repeat(64);

/** One stored chunk, in a map of its own. */
function chunk(blobId: string, offset: number, size: number): ChunkPlace {
  const map: ChunkMap = {
    blobId,
    compressor: "none",
    digester: "sha256",
    compressedSize: 2 ** 30,
    uncompressedSize: 2 ** 30,
    count: 1,
    uncompressedOffset: Float64Array.of(0),
    uncompressedLength: Uint32Array.of(size),
    compressedOffset: Float64Array.of(offset),
    compressedLength: Uint32Array.of(size),
    compressed: new Uint8Array(1),
    digests: new Uint8Array(32),
  };
  return { map, index: 0 };
}

/** A blob of any size whose byte at `i` follows from `i`; notes what it is asked for. */
function numbered(size = 2 ** 30) {
  const ranges: [number, number][] = [];
  const fetcher: Fetcher = {
    async fetch(_, { range = { start: 0, end: 0 } } = {}) {
      ranges.push([range.start, range.end]);
      if (range.end > size) throw corrupt("Cannot read the blob: it is too short");
      return streamOf(bytesAt(range.start, range.end - range.start));
    },
  };
  return { ranges, options: { fetcher } };
}

function bytesAt(offset: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => ((offset + i) * 31) & 0xff);
}

async function collect(wanted: Iterable<ChunkPlace>, options: StoredChunkOptions) {
  const found = await Array.fromAsync(storedChunks(wanted, options));
  return found.map(({ map, stored }) => [map.compressedOffset[0], Buffer.from(stored)]);
}

function expected(wanted: readonly ChunkPlace[]) {
  return wanted.map(({ map: { compressedOffset, compressedLength } }) => [
    compressedOffset[0],
    Buffer.from(bytesAt(compressedOffset[0] ?? 0, compressedLength[0] ?? 0)),
  ]);
}

test("storedChunks() gives chunks in the order wanted, and asks once for what lies together", async () => {
  const { ranges, options } = numbered();
  const wanted = [chunk(BLOB, 500, 100), chunk(BLOB, 0, 500), chunk(BLOB, 1000, 10), chunk(BLOB, 500, 100)];
  expect(await collect(wanted, options)).toEqual(expected(wanted));
  expect(ranges).toEqual([[0, 1010]]);
});

test("storedChunks() does not read over large gaps, nor from one blob to another", async () => {
  const { ranges, options } = numbered();
  await collect([chunk(BLOB, 0, 10), chunk(BLOB, 2 ** 20, 10), chunk(OTHER, 10, 10)], options);
  expect(ranges).toEqual([
    [0, 10],
    [2 ** 20, 2 ** 20 + 10],
    [10, 20],
  ]);
});

test("storedChunks() takes chunks that overlap, as only a hostile image has them", async () => {
  const { options } = numbered();
  const wanted = [chunk(BLOB, 0, 100), chunk(BLOB, 50, 100), chunk(BLOB, 0, 60)];
  expect(await collect(wanted, options)).toEqual(expected(wanted));
});

test("storedChunks() looks two windows ahead and no further", async () => {
  const { ranges, options } = numbered();
  const size = 2 ** 20;
  let taken = 0;
  const wanted = (function* () {
    for (; taken < 100; taken++) yield chunk(BLOB, taken * size, size);
  })();
  for await (const _ of storedChunks(wanted, options)) break;
  expect(taken).toBeLessThan(20);
  expect(ranges.length).toBeLessThanOrEqual(2);
});

test("storedChunks() passes on what the source says, and a body that ends early", async () => {
  const short = numbered(50);
  await expect(collect([chunk(BLOB, 0, 100)], short.options)).rejects.toMatchObject({ code: "corrupt" });
  const { options } = numbered();
  const cut: Fetcher = { fetch: async () => streamOf(new Uint8Array(5)) };
  await expect(collect([chunk(BLOB, 0, 100)], { ...options, fetcher: cut })).rejects.toMatchObject({
    code: "corrupt",
  });
});

test("storedChunks() stops at its signal", async () => {
  const { options } = numbered();
  const signal = AbortSignal.abort(corrupt("Cannot go on: enough"));
  await expect(collect([chunk(BLOB, 0, 1)], { ...options, signal })).rejects.toThrow("enough");
});
