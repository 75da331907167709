import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { Slabs, USUAL } from "./slabs.ts";

test("Slabs.take() waits for one that is given back, and then gives the same memory", async () => {
  const slabs = new Slabs(2);
  const [first, second] = [await slabs.take(1), await slabs.take(USUAL)];
  expect(second.buffer).not.toBe(first.buffer);
  let third: typeof first | undefined;
  const waiting = slabs.take(10).then((slab) => {
    third = slab;
  });
  await setImmediate();
  expect(third).toBeUndefined();
  first[Symbol.dispose]();
  await waiting;
  expect(third?.buffer).toBe(first.buffer);
});

test("Slabs.take() gives as much as is wanted, and keeps no large ones", async () => {
  const slabs = new Slabs(1);
  const large = await slabs.take(USUAL + 1);
  expect(large.buffer.byteLength).toBeGreaterThan(USUAL);
  large[Symbol.dispose]();
  const next = await slabs.take(USUAL);
  expect(next.buffer).not.toBe(large.buffer);
  expect(next.buffer.byteLength).toBe(USUAL);
});
