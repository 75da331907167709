import { expect, test } from "vitest";
import { RestartPause } from "./restart-pause.ts";

test("RestartPause.after() waits longer with every early death, and not at all after a long life", () => {
  const pause = new RestartPause();
  expect(pause.after(60_000)).toBe(0);
  expect([10, 10, 10].map((lived) => pause.after(lived))).toEqual([50, 100, 200]);
  for (let deaths = 0; deaths < 20; deaths++) pause.after(0);
  expect(pause.after(0)).toBe(5000);
  expect(pause.after(60_000)).toBe(0);
  expect(pause.after(10)).toBe(50);
});
