import fc from "fast-check";
import { expect, test } from "vitest";
import { BLOCK, isReady, readyMap, setReady } from "./ready-map.ts";

test("isReady() answers as a list of blocks would, whatever was set", () => {
  const blocks = 200;
  const ranges = fc.array(fc.tuple(fc.nat(blocks * BLOCK), fc.nat(70 * BLOCK)), { maxLength: 8 });
  fc.assert(
    fc.property(ranges, fc.nat(blocks * BLOCK - 1), fc.nat(60 * BLOCK), (set, start, length) => {
      const map = readyMap(blocks * BLOCK);
      const model = new Set<number>();
      for (const [from, size] of set) {
        const end = Math.min(from + size, blocks * BLOCK);
        setReady(map, from, end);
        if (end > from) for (let b = Math.floor(from / BLOCK); b * BLOCK < end; b++) model.add(b);
      }
      const end = Math.min(start + length, blocks * BLOCK);
      let expected = true;
      // An empty range touches no block, wherever it lies.
      if (end > start)
        for (let b = Math.floor(start / BLOCK); b * BLOCK < end; b++) expected &&= model.has(b);
      expect(isReady(map, start, end)).toBe(expected);
    }),
  );
});

test("setReady() with an empty range sets nothing", () => {
  const map = readyMap(BLOCK * 4);
  setReady(map, BLOCK, BLOCK);
  expect(isReady(map, 0, BLOCK * 4)).toBe(false);
  expect([...map].every((word) => word === 0)).toBe(true);
});
