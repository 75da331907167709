import { expect, test } from "vitest";
import { ExactReader } from "../base/exact-reader.ts";
import { streamOf } from "../content/verified.ts";
import { StoredRanges } from "./stored-ranges.ts";

const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
const ranges = (): StoredRanges => new StoredRanges(new ExactReader(streamOf(bytes.subarray(10))), 10);

test("StoredRanges gives the same, overlapping, nested and distant ranges of one body", async () => {
  const taken = ranges();
  for (const [start, size, fresh] of [
    [10, 5, 5],
    [10, 5, 0],
    [12, 10, 7],
    [13, 2, 0],
    [20, 3, 1],
    [50, 10, 10],
    [60, 40, 40],
  ] as const) {
    expect([...(await taken.take(start, size))]).toEqual([...bytes.slice(start, start + size)]);
    expect(taken.fresh).toBe(fresh);
  }
});

test("StoredRanges does not go back, nor past the end", async () => {
  const taken = ranges();
  await taken.take(20, 5);
  await expect(taken.take(19, 2)).rejects.toMatchObject({ code: "corrupt" });
  await expect(taken.take(90, 11)).rejects.toMatchObject({ code: "corrupt" });
});
