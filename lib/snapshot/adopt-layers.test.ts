import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { umountAllUnder } from "../../tests/support/mounts.ts";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { LABEL, type Labels } from "./labels.ts";
import { Snapshotter } from "./snapshotter.ts";

const REFERENCE = "127.0.0.1:5000/app:1";
const [FIRST, SECOND, THIRD] = ["1", "2", "3"].map((c) => `sha256:${c.repeat(64)}`) as [
  string,
  string,
  string,
];

let root: string;
let mounter: TestMounter;
let snapshotter: Snapshotter;
/** Names of the layers up to which an image was made. */
let adopted: string[];

beforeEach(async () => {
  root = await mkdtemp("/tmp/nt-adopt-");
  mounter = new TestMounter();
  adopted = [];
  snapshotter = await Snapshotter.open({
    root: `${root}/state`,
    mounter,
    adopt: async ({ name }, reference, place) => {
      adopted.push(name);
      await mkdir(place, { recursive: true });
      await writeFile(join(place, "image.boot"), reference);
      return { bootstrap: join(place, "image.boot"), format: "eStargz" };
    },
  });
});
afterEach(async () => {
  await snapshotter[Symbol.asyncDispose]();
  await umountAllUnder(root);
  await rm(root, { recursive: true, force: true });
});

const labels = (target: string, more: Labels = {}): Labels => ({
  [LABEL.target]: target,
  [LABEL.imageReference]: REFERENCE,
  "containerd.io/snapshot/stargz/toc.digest": FIRST,
  ...more,
});
const prepare = (target: string, parent: string, given = labels(target)) =>
  snapshotter.prepare({ key: `ns/1/extract ${target}`, parent, labels: given });
const run = (key: string, parent: string) => snapshotter.prepare({ key, parent, labels: {} });

test("layers with a table of contents are not fetched, and mounted when a container needs them", async () => {
  await expect(prepare(FIRST, "")).rejects.toMatchObject({ code: "exists" });
  await expect(prepare(SECOND, FIRST)).rejects.toMatchObject({ code: "exists" });
  expect(adopted).toEqual([]);
  await run("container", SECOND);
  expect(adopted).toEqual([SECOND]);
  expect(mounter.requests).toMatchObject([{ reference: REFERENCE, format: "eStargz" }]);
});

test("an image and a larger one on top of it are mounted and let go apart", async () => {
  await expect(prepare(FIRST, "")).rejects.toMatchObject({ code: "exists" });
  await expect(prepare(SECOND, FIRST)).rejects.toMatchObject({ code: "exists" });
  await run("large", SECOND);
  await run("small", FIRST);
  expect(await mounter.list()).toHaveLength(2);
  await snapshotter.remove("small");
  const [left, ...others] = await mounter.list();
  expect(others).toEqual([]);
  expect(await snapshotter.repair()).toBe(true);
  expect((await mounter.list()).map(({ id }) => id)).toEqual([left?.id]);
  await snapshotter.remove("large");
  expect(await mounter.list()).toEqual([]);
});

test("a plain layer on top is unpacked over the mounted image, and ends what can be lazy", async () => {
  await expect(prepare(FIRST, "")).rejects.toMatchObject({ code: "exists" });
  const plain = { [LABEL.target]: SECOND };
  expect(await prepare(SECOND, FIRST, plain)).toMatchObject([{ type: "overlay" }]);
  await snapshotter.commit({ name: SECOND, key: `ns/1/extract ${SECOND}`, labels: plain });
  expect(await prepare(THIRD, SECOND)).toMatchObject([{ type: "overlay" }]);
});

test("without the image's name a layer with a table of contents is a plain one", async () => {
  const { [LABEL.imageReference]: _, ...nameless } = labels(FIRST);
  expect(await prepare(FIRST, "", nameless)).toMatchObject([{ type: "bind" }]);
});

test("what was made for a layer goes away with it", async () => {
  await expect(prepare(FIRST, "")).rejects.toMatchObject({ code: "exists" });
  await run("container", FIRST);
  const { id } = await snapshotter.stat(FIRST);
  const path = join(root, "state/snapshots", String(id));
  expect(existsSync(join(path, "fs/image/image.boot"))).toBe(true);
  await snapshotter.remove("container");
  await snapshotter.remove(FIRST);
  expect(existsSync(path)).toBe(false);
});
