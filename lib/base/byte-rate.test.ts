import { expect, test } from "vitest";
import { ByteRate } from "./byte-rate.ts";

test("ByteRate makes bytes wait for those before them, whoever asked for those", async () => {
  const rate = new ByteRate(100_000);
  const { signal } = new AbortController();
  const start = performance.now();
  await Promise.all([rate.wait(5000, signal), rate.wait(5000, signal), rate.wait(5000, signal)]);
  // The third waits for the 10,000 bytes of the two before it.
  expect(performance.now() - start).toBeGreaterThanOrEqual(95);
});

test("ByteRate does not hold up what is no longer wanted", async () => {
  const rate = new ByteRate(1);
  const stop = new AbortController();
  await rate.wait(3600, stop.signal);
  const waiting = rate.wait(1, stop.signal);
  stop.abort();
  await waiting;
});
