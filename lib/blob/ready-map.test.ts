import fc from "fast-check";
import { expect, test } from "vitest";
import { BLOCK, clearReady, countReady, isReady, readyMap, setReady } from "./ready-map.ts";

test("isReady() answers as a list of blocks would, whatever was set and cleared", () => {
  const blocks = 200;
  const range = fc.tuple(fc.nat(blocks * BLOCK), fc.nat(70 * BLOCK), fc.boolean());
  const ranges = fc.array(range, { maxLength: 8 });
  fc.assert(
    fc.property(ranges, fc.nat(blocks * BLOCK - 1), fc.nat(60 * BLOCK), (set, start, length) => {
      const map = readyMap(blocks * BLOCK);
      const model = new Set<number>();
      for (const [from, size, clear] of set) {
        const end = Math.min(from + size, blocks * BLOCK);
        (clear ? clearReady : setReady)(map, from, end);
        if (end <= from) continue;
        for (let b = Math.floor(from / BLOCK); b * BLOCK < end; b++) clear ? model.delete(b) : model.add(b);
      }
      const end = Math.min(start + length, blocks * BLOCK);
      let expected = true;
      // An empty range touches no block, wherever it lies.
      if (end > start)
        for (let b = Math.floor(start / BLOCK); b * BLOCK < end; b++) expected &&= model.has(b);
      expect(isReady(map, start, end)).toBe(expected);
      expect(countReady(map)).toBe(model.size);
    }),
  );
});

test("setReady() with an empty range sets nothing", () => {
  const map = readyMap(BLOCK * 4);
  setReady(map, BLOCK, BLOCK);
  expect(isReady(map, 0, BLOCK * 4)).toBe(false);
  expect([...map].every((word) => word === 0)).toBe(true);
});
