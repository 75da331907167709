/**
 * The snapshotter is killed before each of its first writes, one after the other, from an empty directory on: whatever
 * it was about to do, the next start knows all that was said to exist, has nothing else, and works.
 */
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { run } from "../../tests/support/process.ts";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { Limiter } from "../base/limiter.ts";
import { Snapshotter } from "./snapshotter.ts";

const CHURN = fileURLToPath(new URL("../../tests/support/churn-snapshots.ts", import.meta.url));

/** System calls that change what is on disk, and how many of each are tried: three lives of a snapshot take more. */
const POINTS: Readonly<Record<string, number>> = {
  pwrite64: 30,
  fsync: 10,
  mkdir: 12,
  rename: 2,
  unlinkat: 3,
};
/** Children at a time. */
const PARALLEL = 4;

interface Said {
  readonly exists: ReadonlySet<string>;
  /** The last name that was mentioned; empty when nothing was said. */
  readonly last: string;
}

function said(output: string): Said {
  const exists = new Set<string>();
  let last = "";
  for (const line of output.split("\n")) {
    const [sign, name] = line.split(" ");
    if (name === undefined) continue;
    last = name;
    if (sign === "+") exists.add(name);
    else exists.delete(name);
  }
  return { exists, last };
}

async function killedAt(root: string, call: string, when: number): Promise<Said> {
  const inject = ["-f", "-qq", "-o", "/dev/null", "-e", `inject=${call}:signal=SIGKILL:when=${when}`];
  await mkdir(root, { recursive: true });
  const child = await run("strace", [...inject, process.execPath, CHURN, root, "0"], { mayFail: true });
  return said(child.stdout);
}

async function expectWhole(root: string, { exists }: Said, where: string): Promise<void> {
  await using snapshotter = await Snapshotter.open({ root, mounter: new TestMounter() });
  expect(await snapshotter.restore(), where).toBe(true);
  const listed = await snapshotter.list();
  const names = new Set(listed.map(({ name }) => name));
  // One step had begun and was not said to be done: a name that came or went, or both of a commit ("k-0-1" to "c-0-1").
  const differing = [...exists.symmetricDifference(names)].sort();
  const rounds = new Set(differing.map((name) => name.slice(1)));
  const kinds = differing.map((name) => name.charAt(0)).join("");
  expect([0, 1], `${where}: ${differing}`).toContain(rounds.size);
  expect(["", "k", "c", "v", "ck"], `${where}: ${differing}`).toContain(kinds);
  const directories = (await readdir(`${root}/snapshots`)).toSorted();
  expect(directories, where).toEqual(listed.map(({ id }) => String(id)).toSorted());
  expect(await readdir(`${root}/trash`), where).toEqual([]);
  await snapshotter.prepare({ key: "after", parent: "", labels: {} });
  await snapshotter.commit({ name: "committed", key: "after", labels: {} });
  await snapshotter.remove("committed");
}

test("killed before any of its writes, the next start has all that was said to exist and nothing besides", async () => {
  const base = await mkdtemp("/tmp/nt-points-");
  try {
    const limiter = new Limiter(PARALLEL);
    const points = Object.entries(POINTS).flatMap(([call, count]) =>
      Array.from({ length: count }, (_, i) => ({ call, when: i + 1 })),
    );
    const ends = await Promise.all(
      points.map(({ call, when }) =>
        limiter.run(async () => {
          const root = `${base}/${call}-${when}`;
          const end = await killedAt(root, call, when);
          await expectWhole(root, end, `before ${call} ${when}`);
          return end.last;
        }),
      ),
    );
    // Some die before they have said anything, some in the middle of work.
    expect(ends).toContain("");
    expect(new Set(ends).size).toBeGreaterThan(5);
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}, 180_000);

test("a write that a power cut left half done at the end of the journal is as if it had not begun", async () => {
  const root = await mkdtemp("/tmp/nt-torn-");
  try {
    const end = await killedAt(root, "pwrite64", 30);
    const journal = await readFile(`${root}/metadata.db-wal`);
    for (const length of [1, 23, 24, 1000, 4119])
      await appendFile(`${root}/metadata.db-wal`, journal.subarray(32, 32 + length));
    await expectWhole(root, end, "a torn journal");
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
