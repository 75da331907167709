/**
 * Processes that read a whole tree again and again while something happens to whoever serves it.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import { run, waitFor } from "./process.ts";
import type { Workspace } from "./workspace.ts";

/** Every file's content and name, in one line. */
const SUM = "find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";
const READERS = 4;

export async function sumOf(directory: string): Promise<string> {
  return (await run("sh", ["-c", SUM], { cwd: directory })).stdout;
}

export async function dropCaches(): Promise<void> {
  await writeFile("/proc/sys/vm/drop_caches", "3");
}

/**
 * Several readers go through the tree, page caches dropped all the time, while `happening` runs, and once more after it.
 *
 * @returns the different answers they got, complaints included: exactly the tree's sum when no read failed
 */
export async function sumsDuring(
  place: Workspace,
  directory: string,
  happening: () => Promise<void>,
): Promise<string[]> {
  const stop = place.path(`stop-${performance.now()}`);
  const dropping = `while [ ! -e ${stop} ]; do echo 3 > /proc/sys/vm/drop_caches; sleep 0.1; done`;
  const reading = `while [ ! -e ${stop} ]; do ${SUM}; done; ${SUM}`;
  const readers = Array.from({ length: READERS }, () => run("sh", ["-c", reading], { cwd: directory }));
  const dropper = run("sh", ["-c", dropping]);
  try {
    await happening();
  } finally {
    await writeFile(stop, "");
    await dropper;
  }
  const outputs = await Promise.all(readers);
  const lines = outputs.flatMap(({ stdout, stderr }) => [...stdout.split(/(?<=\n)/), ...stderr.split("\n")]);
  return [...new Set(lines.filter((line) => line !== ""))];
}

const VERBS = { server: ["mount-server"], controller: ["mount", "mount-keeper", "snapshotter"] } as const;

/** The processes of this workspace that serve mounts, or that control these. */
export async function processesThat(place: Workspace, which: keyof typeof VERBS): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await place.processes()) {
    const verb = (await place.commandOf(pid))[1] ?? "";
    if (VERBS[which].some((word) => word === verb)) found.push(pid);
  }
  return found;
}

/**
 * SIGKILLs the process that serves or the one that controls, and waits for the one that the survivor starts.
 *
 * @param moment when to do it: nothing happens in this process between its end and the kill
 */
export async function killOne(
  place: Workspace,
  which: keyof typeof VERBS,
  moment: Promise<void> = Promise.resolve(),
): Promise<void> {
  const [before, ...more] = await processesThat(place, which);
  if (before === undefined || more.length > 0)
    throw new Error(`Cannot kill the ${which}: there is not exactly one`);
  await moment;
  process.kill(before, "SIGKILL");
  await waitFor(`another ${which}`, async () =>
    (await processesThat(place, which)).some((now) => now !== before),
  );
}

export async function noneServes(place: Workspace): Promise<void> {
  await waitFor("the processes behind a mount to end", async () => {
    const left = await Promise.all([processesThat(place, "server"), processesThat(place, "controller")]);
    return left.flat().length === 0;
  });
}
