import { expect, test } from "vitest";
import { chunksInMargins, MARGIN } from "./margin.ts";
import { readyMap, setReady } from "./ready-map.ts";
import { sampleBlob } from "./sample-blob.test-support.ts";

const SIZE = 65536;

test("chunksInMargins() names what was read and what begins shortly behind it", async () => {
  const { map } = await sampleBlob({ chunks: 40, size: SIZE });
  const touched = readyMap(map.uncompressedSize);
  expect(chunksInMargins(map, touched)).toEqual([]);
  setReady(touched, 3 * SIZE + 4096, 3 * SIZE + 8192);
  setReady(touched, 30 * SIZE, 31 * SIZE);
  const behind = (chunk: number, end: number): number[] =>
    Array.from({ length: Math.ceil((end + MARGIN) / SIZE) - chunk }, (_, i) => chunk + i);
  expect(chunksInMargins(map, touched)).toEqual([...behind(3, 3 * SIZE + 8192), ...behind(30, 31 * SIZE)]);
});
