import { existsSync } from "node:fs";
import { lstat, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { mountsUnder, umountAllUnder } from "../../tests/support/mounts.ts";
import { mounted } from "../../tests/support/snapshot-mounts.ts";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { NydusError } from "../base/error.ts";
import type { Mount } from "../containerd/snapshots.ts";
import { LABEL, type Labels } from "./labels.ts";
import { keepRepairing } from "./repair-loop.ts";
import type { FindReferences } from "./snapshot-images.ts";
import { Snapshotter } from "./snapshotter.ts";

const REFERENCE = "127.0.0.1:5000/app:1";
const [DATA, BOOT] = ["d", "e"].map((c) => `sha256:${c.repeat(64)}`) as [string, string];
const BLOB = "a".repeat(64);

let root: string;
let mounter: TestMounter;
let snapshotter: Snapshotter;
/** Reference and password of each login that was remembered. */
let remembered: (readonly [string, string])[];

async function start(findReferences?: FindReferences): Promise<void> {
  mounter = new TestMounter();
  remembered = [];
  const finding = findReferences === undefined ? {} : { findReferences };
  snapshotter = await Snapshotter.open({
    ...{ root: `${root}/state`, mounter, ...finding },
    rememberCredentials: (name, { password }) => remembered.push([name, password]),
  });
}

beforeEach(async () => {
  root = await mkdtemp("/tmp/nt-nydus-");
  await start();
});
afterEach(async () => {
  await snapshotter[Symbol.asyncDispose]();
  await umountAllUnder(root);
  await rm(root, { recursive: true, force: true });
});

const reference = { [LABEL.imageReference]: REFERENCE };
const dataLabels: Labels = {
  ...reference,
  [LABEL.target]: DATA,
  [LABEL.layerDigest]: `sha256:${BLOB}`,
  "containerd.io/snapshot/nydus-blob": "true",
};
const bootLabels = (labels: Labels = reference): Labels => ({
  ...labels,
  [LABEL.target]: BOOT,
  "containerd.io/snapshot/nydus-bootstrap": "true",
});

/** What containerd does to unpack a Nydus image; gives back the parent for containers. */
async function unpack(labels: Labels = reference, bootstrap = "image/image.boot"): Promise<string> {
  await expect(snapshotter.prepare({ key: "ns/1/x", parent: "", labels: dataLabels })).rejects.toMatchObject({
    code: "exists",
    message: `target snapshot "${DATA}"`,
  });
  const key = "ns/2/extract";
  const mounts = await snapshotter.prepare({ key, parent: DATA, labels: bootLabels(labels) });
  await mounted(root, mounts, async (directory) => {
    await mkdir(`${directory}/image`);
    await writeFile(`${directory}/${bootstrap}`, "BOOTSTRAP");
  });
  const name = `ns/3/${BOOT}`;
  await snapshotter.commit({ name, key, labels: bootLabels(labels) });
  return name;
}

const run = (key: string, parent: string): Promise<readonly Mount[]> =>
  snapshotter.prepare({ key, parent, labels: {}, namespace: "ns" });

test("a data layer is committed without its data, once for all namespaces", async () => {
  for (const key of ["ns/1/a", "ns/2/b", "other/1/c"])
    await expect(snapshotter.prepare({ key, parent: "", labels: dataLabels })).rejects.toMatchObject({
      code: "exists",
    });
  const found = await snapshotter.list([`labels."${LABEL.target}"==${DATA},parent==""`]);
  expect(found).toMatchObject([{ name: DATA, kind: "committed", layer: "nydus-data", labels: dataLabels }]);
  // Each time, for it may have ended in between.
  expect(mounter.warmed).toBe(3);
  expect(await snapshotter.list()).toHaveLength(1);
});

test("a data layer on another parent is another snapshot", async () => {
  await snapshotter.prepare({ key: "a", parent: "", labels: {} });
  await snapshotter.commit({ name: "p", key: "a", labels: {} });
  for (const parent of ["", "p"])
    await expect(snapshotter.prepare({ key: "k", parent, labels: dataLabels })).rejects.toMatchObject({
      code: "exists",
    });
  const found = await snapshotter.list([`labels."${LABEL.target}"==${DATA},parent==p`]);
  expect(found).toMatchObject([{ kind: "committed", parent: "p" }]);
});

test("a data layer without its parent is refused", async () => {
  await expect(snapshotter.prepare({ key: "k", parent: "none", labels: dataLabels })).rejects.toMatchObject({
    code: "not_found",
  });
});

test("a bootstrap is checked when containerd has it, before any container asks for it", async () => {
  await unpack();
  await expect.poll(() => mounter.checked).toHaveLength(1);
  expect(await readFile(mounter.checked[0] ?? "", "utf8")).toBe("BOOTSTRAP");
});

test("a container sees the image through an overlay, writes into its own directory, and looks like the image", async () => {
  const image = await unpack();
  expect(mounter.requests).toEqual([]);
  const mounts = await run("ns/4/c", image);
  expect(mounter.requests).toMatchObject([{ reference: REFERENCE, id: expect.any(String) }]);
  const [request] = mounter.requests;
  expect(await readFile(request?.bootstrap ?? "", "utf8")).toBe("BOOTSTRAP");
  expect(mounts).toMatchObject([
    { type: "overlay", options: [/^workdir=/, /^upperdir=/, ""].map(() => expect.any(String)) },
  ]);
  expect(mounts[0]?.options.at(-1)).toBe(`lowerdir=${request?.mountpoint}`);
  await mounted(root, mounts, async (directory) => {
    expect(await readdir(directory)).toEqual(["bootstrap"]);
    expect((await lstat(directory)).mode & 0o777).toBe(0o751); // the image's root directory
    await writeFile(`${directory}/new`, "data");
  });
  expect((await snapshotter.usage("ns/4/c")).inodes).toBe(2);
  expect(await snapshotter.mounts("ns/4/c")).toEqual(mounts);
});

test("a view of the image is read-only", async () => {
  const image = await unpack();
  const mounts = await snapshotter.view({ key: "v", parent: image, labels: {} });
  await mounted(root, mounts, async (directory) => {
    expect(await readdir(directory)).toEqual(["bootstrap"]);
    await expect(writeFile(`${directory}/x`, "")).rejects.toMatchObject({ code: "EROFS" });
  });
});

test("a view of a data layer is an empty directory", async () => {
  await unpack();
  const mounts = await snapshotter.view({ key: "v", parent: DATA, labels: {} });
  await mounted(root, mounts, async (directory) => expect(await readdir(directory)).toEqual([]));
  expect(mounter.requests).toEqual([]);
});

test("layers on top of an image see the image below them", async () => {
  const image = await unpack();
  const changed = await run("ns/4/c", image);
  await mounted(root, changed, (directory) => writeFile(`${directory}/added`, "1"));
  await snapshotter.commit({ name: "ns/5/derived", key: "ns/4/c", labels: {} });
  await mounted(root, await run("ns/6/d", "ns/5/derived"), async (directory) => {
    expect((await readdir(directory)).toSorted()).toEqual(["added", "bootstrap"]);
  });
});

test("an image is mounted once for many containers, until the last one goes", async () => {
  const image = await unpack();
  await Promise.all(Array.from({ length: 8 }, (_, i) => run(`c${i}`, image)));
  expect(mountsUnder(root)).toHaveLength(1);
  for (let i = 0; i < 7; i++) await snapshotter.remove(`c${i}`);
  expect(mountsUnder(root)).toHaveLength(1);
  await snapshotter.remove("c7");
  expect(mountsUnder(root)).toEqual([]);
  await run("again", image);
  expect(mountsUnder(root)).toHaveLength(1);
});

test("containers come and go side by side", async () => {
  const image = await unpack();
  const life = async (key: string): Promise<void> => {
    const mounts = await run(key, image);
    await mounted(root, mounts, async (directory) => expect(await readdir(directory)).toEqual(["bootstrap"]));
    await snapshotter.remove(key);
  };
  await Promise.all(Array.from({ length: 12 }, (_, i) => life(`c${i}`)));
  expect(mountsUnder(root)).toEqual([]);
});

test("an image that is still in use when its last snapshot goes is unmounted by cleanup", async () => {
  const image = await unpack();
  await run("c", image);
  const busy = await open(`${mounter.requests[0]?.mountpoint}/bootstrap`);
  await snapshotter.remove("c");
  await snapshotter.remove(image);
  expect(mountsUnder(root)).toHaveLength(1);
  await snapshotter.cleanup();
  expect(mountsUnder(root)).toHaveLength(1);
  await busy.close();
  await snapshotter.cleanup();
  expect(mountsUnder(root)).toEqual([]);
  expect(await readdir(`${root}/state/snapshots`)).toHaveLength(1); // the data layer's
});

test("an image that cannot be mounted leaves no container behind", async () => {
  const image = await unpack();
  mounter.broken.set(REFERENCE, new NydusError("unavailable", "Cannot reach the registry"));
  await expect(run("c", image)).rejects.toMatchObject({ code: "unavailable" });
  await expect(snapshotter.stat("c")).rejects.toMatchObject({ code: "not_found" });
  mounter.broken.clear();
  await run("c", image);
});

test("a bootstrap layer without a bootstrap is refused by name", async () => {
  const image = await unpack(reference, "image/other");
  await expect(run("c", image)).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringContaining("it has no image/image.boot"),
  });
});

test("a reference that no label gave is found in containerd, and remembered", async () => {
  await snapshotter[Symbol.asyncDispose]();
  const asked: (string | undefined)[] = [];
  await start(async ({ name }, namespace) => {
    asked.push(`${name} ${namespace}`);
    return ["gone.example/a:1", REFERENCE];
  });
  mounter.broken.set("gone.example/a:1", new NydusError("not_found", "Cannot find it"));
  const image = await unpack({});
  await run("c", image);
  await snapshotter.remove("c");
  await run("d", image);
  expect(asked).toEqual([`${image} ns`]);
  expect(mounter.requests.map((request) => request.reference)).toEqual([
    "gone.example/a:1",
    REFERENCE,
    REFERENCE,
  ]);
});

test("a reference that nobody knows is a clear error", async () => {
  const image = await unpack({});
  await expect(run("c", image)).rejects.toMatchObject({
    code: "not_found",
    message: expect.stringContaining("no label says which image it belongs to"),
  });
});

test("credentials from labels are remembered for the image, and reach nothing on disk", async () => {
  const secret = { [LABEL.username]: "somebody", [LABEL.secret]: "hunter2-hunter2" };
  const image = await unpack({ ...reference, ...secret });
  expect(remembered).toEqual([[REFERENCE, "hunter2-hunter2"]]);
  await run("c", image);
  expect(JSON.stringify(mounter.requests)).not.toContain("hunter2");
  for (const name of await readdir(`${root}/state`))
    if (name.startsWith("metadata.db"))
      expect((await readFile(`${root}/state/${name}`)).includes("hunter2")).toBe(false);
});

test("credentials of an image that no label names are remembered when the image is found", async () => {
  await snapshotter[Symbol.asyncDispose]();
  await start(async () => [REFERENCE]);
  const image = await unpack({ [LABEL.username]: "somebody", [LABEL.secret]: "hunter2-hunter2" });
  expect(remembered).toEqual([]);
  await run("c", image);
  expect(remembered).toEqual([[REFERENCE, "hunter2-hunter2"]]);
});

test("usage of a data layer is what the cache holds, and each blob of an image counts once", async () => {
  const image = await unpack();
  const unpacked = await snapshotter.usage(image);
  await run("c", image);
  expect(await snapshotter.usage(DATA)).toEqual({ size: 0, inodes: 0 });
  mounter.cached.set(BLOB, 4096);
  expect(await snapshotter.usage(DATA)).toEqual({ size: 4096, inodes: 1 });
  expect(await snapshotter.usage(image)).toEqual(unpacked);
  mounter.cached.set("b".repeat(64), 8192); // of another image's blob, which no layer of this one stands for
  expect(await snapshotter.usage(image)).toEqual({
    size: unpacked.size + 8192,
    inodes: unpacked.inodes + 1,
  });
});

test("cleanup keeps cached data of images that are still there", async () => {
  const image = await unpack();
  await run("c", image);
  await snapshotter.cleanup();
  const bootstraps = [new Bun.CryptoHasher("sha256").update("BOOTSTRAP").digest("hex")];
  // The layer's, and what the bootstrap names.
  expect(mounter.collected.at(-1)).toEqual({ blobs: [BLOB, "b".repeat(64)], bootstraps });
  await snapshotter.remove("c");
  await snapshotter.remove(image);
  await snapshotter.cleanup();
  expect(mounter.collected.at(-1)).toEqual({ blobs: [BLOB], bootstraps: [] });
  await snapshotter.remove(DATA);
  await snapshotter.cleanup();
  expect(mounter.collected.at(-1)).toEqual({ blobs: [], bootstraps: [] });
  expect(await readdir(`${root}/state/snapshots`)).toEqual([]);
});

test("after a restart, images of living containers are mounted again; a broken one stops nothing", async () => {
  const image = await unpack();
  await run("c", image);
  const mounts = await snapshotter.mounts("c");
  await snapshotter[Symbol.asyncDispose]();
  await umountAllUnder(root); // as after a reboot

  await start();
  mounter.broken.set(REFERENCE, new NydusError("unavailable", "Cannot reach the registry"));
  expect(await snapshotter.restore()).toBe(false);
  expect(mountsUnder(root)).toEqual([]);
  expect(await snapshotter.stat("c")).toMatchObject({ kind: "active" });
  expect(snapshotter.failedImages).toMatchObject([{ error: "Cannot reach the registry" }]);
  mounter.broken.clear();
  expect(await snapshotter.repair()).toBe(true);
  expect(snapshotter.failedImages).toEqual([]);
  expect(mountsUnder(root)).toHaveLength(1);
  expect(await snapshotter.mounts("c")).toEqual(mounts);
});

test("after a restart, an image that cannot be mounted is tried again until it can, or nobody needs it", async () => {
  const image = await unpack();
  await run("c", image);
  mounter.broken.set(REFERENCE, new NydusError("unavailable", "Cannot reach the registry"));
  await umountAllUnder(root);
  using _loop = keepRepairing(snapshotter, { first: 1, longest: 5 });
  await expect.poll(() => mounter.requests.length).toBeGreaterThan(5);
  expect(mountsUnder(root)).toEqual([]);
  mounter.broken.clear();
  await expect.poll(() => mountsUnder(root).length).toBe(1);
  await umountAllUnder(root);
  await expect.poll(() => mountsUnder(root).length, { timeout: 5000 }).toBe(1);

  mounter.broken.set(REFERENCE, new NydusError("unavailable", "Cannot reach the registry"));
  await umountAllUnder(root);
  await expect.poll(() => snapshotter.failedImages.length).toBe(1);
  await snapshotter.remove("c");
  expect(snapshotter.failedImages).toEqual([]);
  expect(await snapshotter.repair()).toBe(true);
});

test("a start unmounts images that nobody serves any more and nobody uses", async () => {
  const image = await unpack();
  await run("c", image);
  mounter.forget(); // its process was killed, and so was ours:
  await snapshotter.remove("c");
  expect(mountsUnder(root)).toHaveLength(1);
  await snapshotter.remove(image);
  await snapshotter.restore();
  expect(mountsUnder(root)).toEqual([]);
  expect(await readdir(`${root}/state/snapshots`)).toHaveLength(1); // the data layer's
});

test("a start removes what a kill left: directories without rows, and half-deleted ones", async () => {
  await mkdir(`${root}/state/snapshots/77/fs`, { recursive: true });
  await writeFile(`${root}/state/snapshots/77/fs/x`, "");
  await mkdir(`${root}/state/trash/5-old/fs`, { recursive: true });
  await snapshotter.restore();
  expect(await readdir(`${root}/state/snapshots`)).toEqual([]);
  expect(existsSync(`${root}/state/trash/5-old`)).toBe(false);
});
