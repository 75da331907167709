import { expect, test } from "vitest";
import { planRuns } from "./fetch-plan.ts";
import { sampleBlob } from "./sample-blob.test-support.ts";

const always = (): boolean => true;

test("planRuns() joins needed neighbours into one run", async () => {
  const { map } = await sampleBlob({ chunks: 6, size: 4096 });
  expect(planRuns(map, [1, 2, 4], { ahead: 0, most: 1 << 20, wanted: always })).toEqual([[1, 2], [4]]);
});

test("planRuns() reads ahead up to the limit, and stops at what is there already", async () => {
  const { map } = await sampleBlob({ chunks: 8, size: 4096, compressor: "none" });
  expect(planRuns(map, [0], { ahead: 3 * 4096, most: 1 << 20, wanted: always })).toEqual([[0, 1, 2, 3]]);
  expect(planRuns(map, [0], { ahead: 1 << 20, most: 1 << 20, wanted: (c) => c !== 2 })).toEqual([[0, 1]]);
});

test("planRuns() splits what is larger than one request", async () => {
  const { map } = await sampleBlob({ chunks: 5, size: 4096, compressor: "none" });
  const runs = planRuns(map, [0, 1, 2, 3, 4], { ahead: 0, most: 2 * 4096, wanted: always });
  expect(runs).toEqual([[0, 1], [2, 3], [4]]);
});

test("planRuns() reads far ahead in several requests beside each other", async () => {
  const { map } = await sampleBlob({ chunks: 12, size: 4096, compressor: "none" });
  const plan = { ahead: 7 * 4096, most: 1 << 20, piece: 3 * 4096, wanted: always };
  expect(planRuns(map, [1], plan)).toEqual([
    [1, 2, 3],
    [4, 5, 6],
    [7, 8],
  ]);
});
