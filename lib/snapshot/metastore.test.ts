import { Database } from "bun:sqlite";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { Metastore, type NewSnapshot } from "./metastore.ts";
import { Snapshotter } from "./snapshotter.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp("/tmp/nt-store-");
});
afterEach(() => rm(root, { recursive: true, force: true }));

const committed = (name: string, parent = ""): NewSnapshot => ({
  ...{ name, parent, kind: "committed", layer: "plain", labels: {} },
});

test("Metastore.ancestors() lists parents nearest first, users() what is active above", () => {
  using store = new Metastore(`${root}/m.db`);
  const [a, b, c] = ["a", "b", "c"].map((name, i) => store.create(committed(name, "abc"[i - 1] ?? "")));
  const active = store.create({ ...committed("x", "c"), kind: "active" });
  store.create({ ...committed("y", "a"), kind: "view" });
  expect(store.ancestors(active.id).map(({ name }) => name)).toEqual(["c", "b", "a"]);
  expect(store.ancestors(a?.id ?? 0)).toEqual([]);
  expect(store.users(a?.id ?? 0).map(({ name }) => name)).toEqual(["x", "y"]);
  expect(store.users(b?.id ?? 0).map(({ name }) => name)).toEqual(["x"]);
  expect(store.users(c?.id ?? 0).map(({ name }) => name)).toEqual(["x"]);
});

test("Metastore.create() adds nothing when making the directory fails", () => {
  using store = new Metastore(`${root}/m.db`);
  const fail = (): never => {
    throw new Error("disk");
  };
  expect(() => store.create(committed("a"), fail)).toThrow("disk");
  expect(store.list()).toEqual([]);
});

test("Metastore.commit() gives a parent to a snapshot that has none, and changes none", () => {
  using store = new Metastore(`${root}/m.db`);
  const usage = { size: 1, inodes: 2 };
  store.create(committed("p"));
  store.create({ ...committed("a"), kind: "active" });
  expect(store.commit("a", "c", { labels: {}, usage, parent: "p" })).toMatchObject({ parent: "p", usage });
  store.create({ ...committed("b", "c"), kind: "active" });
  expect(() => store.commit("b", "d", { labels: {}, usage, parent: "p" })).toThrow(
    expect.objectContaining({ code: "usage" }),
  );
  expect(() => store.remove("p")).toThrow(expect.objectContaining({ code: "busy" }));
});

test("Metastore keeps any name and label", () => {
  const labels = { "a'b": '"', "\u{1f433}": "\n" };
  {
    using store = new Metastore(`${root}/m.db`);
    store.create({
      ...committed("default/1/x' OR 1=1"),
      labels,
      namespace: "ns",
      reference: "r",
      blobs: ["b"],
    });
  }
  using store = new Metastore(`${root}/m.db`);
  expect(store.get("default/1/x' OR 1=1")).toMatchObject({
    labels,
    namespace: "ns",
    reference: "r",
    blobs: ["b"],
  });
});

test("Metastore refuses to share its file", () => {
  using _store = new Metastore(`${root}/m.db`);
  expect(() => new Metastore(`${root}/m.db`)).toThrow(expect.objectContaining({ code: "busy" }));
});

test("Metastore refuses a damaged file and one of a newer program", async () => {
  await writeFile(`${root}/bad.db`, "x".repeat(5000));
  expect(() => new Metastore(`${root}/bad.db`)).toThrow(expect.objectContaining({ code: "corrupt" }));
  const newer = new Database(`${root}/new.db`);
  newer.run("PRAGMA user_version = 99");
  newer.close();
  expect(() => new Metastore(`${root}/new.db`)).toThrow(expect.objectContaining({ code: "unsupported" }));
});

const CHURN = fileURLToPath(new URL("../../tests/support/churn-snapshots.ts", import.meta.url));

/** Let it work for some lines, kill it, and say which snapshots must exist. */
async function churnAndKill(round: number, lines: number): Promise<{ must: Set<string>; last: string }> {
  const child = spawn(process.execPath, [CHURN, root, String(round)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  const must = new Set<string>();
  let [count, last] = [0, ""];
  for await (const line of createInterface({ input: child.stdout })) {
    if (count++ === lines) child.kill("SIGKILL");
    const [sign, name] = line.split(" ");
    if (name === undefined) continue;
    last = name;
    if (sign === "+") must.add(name);
    else must.delete(name);
  }
  await closed;
  return { must, last };
}

test("Snapshotter forgets nothing that it had said when it is killed, and repairs what it had not", async () => {
  const survivors = new Set<string>();
  for (const [round, lines] of [0, 1, 7, 40, 93].entries()) {
    const { must, last } = await churnAndKill(round, lines);
    await using snapshotter = await Snapshotter.open({ root, mounter: new TestMounter() });
    await snapshotter.restore();
    const listed = await snapshotter.list();
    const names = new Set(listed.map(({ name }) => name));
    // The step it was killed in may have happened or not: it concerns the last names only.
    const near = (name: string): boolean =>
      name.split("-").slice(1).join("-") === last.split("-").slice(1).join("-");
    for (const name of must) if (!near(name)) expect(names, name).toContain(name);
    for (const name of survivors) expect(names, name).toContain(name);
    for (const name of names) survivors.add(name);
    const directories = (await readdir(`${root}/snapshots`)).toSorted();
    expect(directories).toEqual(listed.map(({ id }) => String(id)).toSorted());
    expect(await readdir(`${root}/trash`)).toEqual([]);
  }
  expect(survivors.size).toBeGreaterThan(10);
  using raw = new Database(`${root}/metadata.db`);
  expect(raw.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
});
