import { expect, test } from "vitest";
import { Turns } from "./turns.ts";

test("Turns.run() keeps the order of one key, and lets other keys pass", async () => {
  const turns = new Turns<string>();
  const done: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = turns.run("a", async () => {
    await gate.promise;
    done.push("a1");
  });
  const second = turns.run("a", async () => void done.push("a2"));
  await turns.run("b", async () => void done.push("b"));
  expect(done).toEqual(["b"]);
  gate.resolve();
  await Promise.all([first, second]);
  expect(done).toEqual(["b", "a1", "a2"]);
});

test("Turns.run() goes on after a step that failed, and gives each caller its own result", async () => {
  const turns = new Turns<number>();
  const failed = turns.run(1, () => Promise.reject(new Error("no")));
  const next = turns.run(1, () => Promise.resolve(2));
  await expect(failed).rejects.toThrow("no");
  expect(await next).toBe(2);
});
