import { expect, test } from "vitest";
import { SourceCost, Streams } from "./read-ahead.ts";

function measured(latencyMs: number, bytesPerSecond: number): number {
  const cost = new SourceCost();
  for (let i = 0; i < 5; i++) {
    cost.answered(latencyMs);
    cost.moved(1 << 20, ((1 << 20) * 1000) / bytesPerSecond);
  }
  return cost.ahead;
}

test("SourceCost.ahead is what comes in the time of a round trip, within bounds", () => {
  expect(measured(10, 50e6)).toBe(500_000);
  expect(measured(30, 2.5e6)).toBe(128 << 10);
  expect(measured(100, 1e9)).toBe(2 << 20);
});

test("SourceCost.ahead is a guess until enough was measured, and small bodies say nothing", () => {
  const cost = new SourceCost();
  for (let i = 0; i < 10; i++) {
    cost.answered(1);
    cost.moved(1000, 0.001);
  }
  expect(cost.ahead).toBe(768 << 10);
});

test("Streams gives a reader who goes on twice as much each time, and others the usual", () => {
  const streams = new Streams();
  const factors = [10, 20, 30, 40, 50].map((next) => {
    const factor = streams.factor(next);
    streams.reached(next + 10, factor);
    return factor;
  });
  expect(factors).toEqual([1, 2, 4, 8, 8]);
  expect(streams.factor(1000)).toBe(1);
});

test("Streams forgets the oldest of many", () => {
  const streams = new Streams();
  for (let i = 0; i < 100; i++) streams.reached(i, 1);
  expect(streams.factor(0)).toBe(1);
  expect(streams.factor(99)).toBe(2);
});
