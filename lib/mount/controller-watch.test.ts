import { readFileSync, readlinkSync, realpathSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { createLogger } from "../base/log.ts";
import { parseController } from "./controller.ts";
import { ControllerWatch } from "./controller-watch.ts";

/** A watch whose log tells which processes it started. */
function watching(): { watch: ControllerWatch; started: () => number[] } {
  const lines: string[] = [];
  const watch = new ControllerWatch(
    () => new Map(),
    createLogger((line) => lines.push(line)),
  );
  onTestFinished(() => watch[Symbol.dispose]());
  const started = () => lines.flatMap((line) => Number(/started it again pid=(\d+)/.exec(line)?.[1] ?? []));
  return { watch, started };
}

async function until(condition: () => boolean): Promise<void> {
  for (let look = 0; look < 1000 && !condition(); look++) await Bun.sleep(10);
  expect(condition()).toBe(true);
}

function environmentOf(pid: number): string {
  return readFileSync(`/proc/${pid}/environ`, "utf8");
}

test("ControllerWatch starts a killed process again, with its own program, environment and directory", async () => {
  const { watch, started } = watching();
  const child = Bun.spawn(["sleep", "100"], { env: { PATH: "/bin:/usr/bin", KEPT: "yes" }, cwd: "/usr" });
  // A controller runs when it registers. This one may still be in execve(2): the kernel then shows no environment.
  await until(() => environmentOf(child.pid).includes("KEPT=yes\0"));
  watch.register({ pid: child.pid, words: ["101"] });
  child.kill("SIGKILL");
  await until(() => started().length === 1);
  const [pid = 0] = started();
  onTestFinished(() => void process.kill(pid, "SIGKILL"));
  await until(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").endsWith("101\0"));
  await until(() => environmentOf(pid).includes("KEPT=yes\0"));
  expect(readlinkSync(`/proc/${pid}/exe`)).toBe(realpathSync(Bun.which("sleep") ?? ""));
  expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/usr");
  watch.release(pid);
});

test("ControllerWatch goes on with a process that dies at once, until it is released", async () => {
  const { watch, started } = watching();
  const child = Bun.spawn(["true"]);
  watch.register({ pid: child.pid, words: [] });
  await until(() => started().length === 3);
  watch.release(started().at(-1) ?? 0);
  const count = started().length;
  await Bun.sleep(1000);
  expect(started().length).toBe(count);
});

test("ControllerWatch leaves a process alone that somebody else starts again, or that was released", async () => {
  const { watch, started } = watching();
  const other = Bun.spawn(["sleep", "100"]);
  watch.register({ pid: other.pid });
  other.kill("SIGKILL");
  await other.exited;
  await Bun.sleep(500);
  const released = Bun.spawn(["sleep", "100"]);
  watch.register({ pid: released.pid, words: ["1"] });
  watch.release(released.pid);
  released.kill("SIGKILL");
  await Bun.sleep(500);
  expect(started()).toEqual([]);
});

test("parseController() refuses what names no process", () => {
  for (const wrong of [null, {}, { pid: 1 }, { pid: 1.5 }, { pid: 12, words: "sh" }, { pid: 12, words: [1] }])
    expect(() => parseController(wrong), JSON.stringify(wrong)).toThrow(
      expect.objectContaining({ code: "usage" }),
    );
});
