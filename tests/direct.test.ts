/**
 * Complete blobs: the kernel reads their cache files by itself, and whatever happens around it, it never reads a hole or
 * a damaged chunk.
 */
import { open, readdir, readFile, stat } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { killOne, processesThat } from "./support/readers.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const NO_DIFFERENCES = /, 0 differences$/;
const DRIVERS = ["erofs", "erofs-loop"] as const;

let place: Workspace;
let proxy: CountingProxy;
let image: string;

beforeAll(async () => {
  place = await openWorkspace();
  const made = makeImage(403);
  await writeExpected(place.path("tree.jsonl"), made.tree);
  await writeLayout(place.path("source"), made.layers.map(tarOf));
  const registry = await startEmbeddedRegistry(place);
  await place.tool([
    ...["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, `${registry.host}/made/image:n`],
  ]);
  proxy = await startCountingProxy(registry.host);
  image = `${proxy.host}/made/image:n`;
});
afterAll(async () => {
  await place[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
});

const check = (mountpoint: string) => checkTree(place.path("tree.jsonl"), mountpoint);

interface Status {
  readonly mounts: readonly { readonly blobs: readonly string[]; readonly directBlobs: readonly string[] }[];
  readonly caches: readonly { readonly damagedChunks: number; readonly evictedBytes: number }[];
}

async function status(): Promise<Status> {
  const { stdout } = await place.tool(["status", "--json", "--run-dir", place.path("run")]);
  return JSON.parse(stdout) as Status;
}

/** A cache with all of the image, or with all of some of its blobs. */
async function filled(name: string, paths = "."): Promise<string> {
  const cache = place.path(name);
  const mountpoint = await place.mount(image, { cache });
  await run("sh", ["-c", `find ${paths} -type f -exec cat {} + > /dev/null`], { cwd: mountpoint });
  await place.umount(mountpoint);
  return cache;
}

/** Loop devices whose files lie in our directory. */
async function loops(): Promise<string[]> {
  const names = (await readdir("/sys/block")).filter((name) => name.startsWith("loop"));
  const files = names.map((name) => readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => ""));
  return (await Promise.all(files)).filter((file) => file.includes(place.directory));
}

test.each(DRIVERS)(
  "a complete image is read through %s without FUSE and without any process",
  async (driver) => {
    const cache = await filled(`whole-${driver}`);
    const mountpoint = await place.mount(image, { driver, cache });
    const [mount] = (await status()).mounts;
    expect(mount?.directBlobs).toEqual(mount?.blobs);
    expect(place.mounts()).toEqual([mountpoint]);
    for (const which of ["controller", "server"] as const)
      for (const pid of await processesThat(place, which)) process.kill(pid, "SIGKILL");
    expect(await check(mountpoint)).toMatch(NO_DIFFERENCES);
    const words = ["status", "--run-dir", place.path("run")];
    expect((await place.tool(words)).stdout).not.toContain("BROKEN");
    await place.umount(mountpoint);
    expect(place.mounts()).toEqual([]);
    expect(await loops()).toEqual([]);
  },
);

test.each(DRIVERS)(
  "of a mixed image the complete blobs are direct through %s, also after kills",
  async (driver) => {
    const cache = await filled(`mixed-${driver}`, "names attributes");
    proxy.reset();
    const mountpoint = await place.mount(image, { driver, cache });
    const before = (await status()).mounts[0];
    await killOne(place, "server");
    await killOne(place, "controller");
    expect(await check(mountpoint)).toMatch(NO_DIFFERENCES);
    expect((await status()).mounts[0]?.directBlobs).toEqual(before?.directBlobs);
    await place.umount(mountpoint);
    await expect.poll(loops, { timeout: 10_000 }).toEqual([]);
  },
);

test("erofs-loop reads an image that is not there yet, and survives a kill in the middle", async () => {
  const mountpoint = await place.mount(image, { driver: "erofs-loop", cache: place.path("cold") });
  const reading = check(mountpoint);
  await killOne(place, "server");
  expect(await reading).toMatch(NO_DIFFERENCES);
  expect((await loops()).length).toBeGreaterThan(1);
  await place.umount(mountpoint);
  await expect.poll(loops, { timeout: 10_000 }).toEqual([]);
});

test("nothing that a mount stands on is evicted or collected", async () => {
  const cache = await filled("pinned");
  const mountpoint = await place.mount(image, { driver: "erofs", cache });
  for (const which of ["controller", "server"] as const)
    for (const pid of await processesThat(place, which)) process.kill(pid, "SIGKILL");
  // Another process with the same cache, far too small a quota, and another image to fill it with.
  await writeLayout(place.path("other"), makeImage(404).layers.map(tarOf));
  const other = `oci:${place.path("other-nydus")}:n`;
  await place.tool(["convert", `oci:${place.path("other")}:t`, other]);
  const second = await place.mount(other, { cache, flags: ["--cache-size", "1M"] });
  await run("sh", ["-c", "find . -type f -exec cat {} + > /dev/null"], { cwd: second });
  expect(await check(mountpoint)).toMatch(NO_DIFFERENCES);
  await place.umount(second);
  await place.umount(mountpoint);
});

test("scrub finds what the disk lost, below a direct mount too, and fetches it again", async () => {
  const cache = await filled("scrubbed");
  const mountpoint = await place.mount(image, { driver: "erofs", cache });
  const [blob = ""] = (await status()).mounts[0]?.directBlobs ?? [];
  const data = `${cache}/blobs/${blob}/data`;
  await using file = await open(data, "r+");
  const { size } = await stat(data);
  expect(size).toBeGreaterThan(0);
  await file.write(Buffer.alloc(4096, 0xa5), 0, 4096, 0);
  await file.sync();
  const { stdout } = await place.tool(["scrub", "--json", "--run-dir", place.path("run")]);
  expect(JSON.parse(stdout)).toMatchObject({ damagedChunks: 1 });
  expect((await status()).caches[0]).toMatchObject({ damagedChunks: 1 });
  expect(await check(mountpoint)).toMatch(NO_DIFFERENCES);
  const again = await place.tool(["scrub", "--run-dir", place.path("run")]);
  expect(again.stdout).toContain("all whole");
  await place.umount(mountpoint);
});

test("a damaged cache is not mounted directly: what is damaged is fetched again", async () => {
  const cache = await filled("damaged");
  const [blob = ""] = await readdir(`${cache}/blobs`);
  await using file = await open(`${cache}/blobs/${blob}/data`, "r+");
  await file.write(Buffer.alloc(4096, 0xa5), 0, 4096, 0);
  const mountpoint = await place.mount(image, { driver: "erofs", cache });
  expect((await status()).mounts[0]?.directBlobs).not.toContain(blob);
  expect(await check(mountpoint)).toMatch(NO_DIFFERENCES);
  await place.umount(mountpoint);
});

test("after an unclean stop the cache is read back by itself", async () => {
  const cache = await filled("unclean");
  const mountpoint = await place.mount(image, { driver: "fuse", cache });
  await killOne(place, "server");
  const checked = async () => JSON.stringify((await status()).caches[0]);
  await expect.poll(checked, { timeout: 30_000 }).toMatch(/"checkedChunks":[1-9]/);
  await place.umount(mountpoint);
});

test("a full disk costs requests, not reads, and status says so", async () => {
  const small = place.path("small");
  await run("mkdir", [small]);
  await run("mount", ["-t", "tmpfs", "-o", "size=1M", "tmpfs", small]);
  const mountpoint = await place.mount(image, { cache: small });
  expect(await check(mountpoint)).toMatch(NO_DIFFERENCES);
  const text = (await place.tool(["status", "--run-dir", place.path("run")])).stdout;
  expect(text).toMatch(/trouble {2}.*ENOSPC/);
  expect(text).toMatch(/trouble {2}\d+ chunks not cached/);
  await place.umount(mountpoint);
  await run("umount", [small]);
});
