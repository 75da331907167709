/**
 * Awkward images, converted by the built program and mounted by it, look exactly as they must: names, attributes,
 * contents, judged by a process that has nothing to do with the one that serves.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { startCountingProxy } from "./support/counting-proxy.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { checkGoldenTree, golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { type LayerCompression, writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "fuse"] as const;
const NO_DIFFERENCES = /, 0 differences$/;

interface Recipe {
  readonly seed: number;
  readonly compression: readonly LayerCompression[];
  readonly flags: readonly string[];
}

/** Each seed goes through another corner of the converter. */
const RECIPES: readonly Recipe[] = [
  { seed: 101, compression: ["gzip"], flags: [] },
  { seed: 102, compression: ["zstd"], flags: ["--compressor", "lz4_block", "--digester", "blake3"] },
  { seed: 103, compression: ["none"], flags: ["--compressor", "none"] },
  { seed: 104, compression: ["gzip-members", "zstd"], flags: ["--chunk-size", "64K"] },
  {
    seed: 105,
    compression: ["zstd-frames", "none", "gzip"],
    flags: ["--chunk-size", "4K", "--digester", "blake3"],
  },
];

describe.each(RECIPES)("image made from seed $seed", ({ seed, compression, flags }) => {
  let place: Workspace;
  let registry: string;

  beforeAll(async () => {
    place = await openWorkspace();
    const image = makeImage(seed);
    await writeExpected(place.path("tree.jsonl"), image.tree);
    await writeLayout(place.path("source"), image.layers.map(tarOf), { compression });
    registry = `${(await startEmbeddedRegistry(place)).host}/made/image:nydus`;
    for (const target of [`oci:${place.path("nydus")}:n`, registry]) {
      await place.tool(["convert", ...flags, `oci:${place.path("source")}:t`, target]);
    }
  });
  afterAll(() => place[Symbol.asyncDispose]());

  test.each(DRIVERS)("shows 0 differences from a layout through %s", async (driver) => {
    const mountpoint = await place.mount(`oci:${place.path("nydus")}:n`, {
      driver,
      cache: place.path(driver),
    });
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await place.umount(mountpoint);
  });

  test.each(DRIVERS)("shows 0 differences from the embedded registry through %s", async (driver) => {
    const cache = place.path(`registry-${driver}`);
    const mountpoint = await place.mount(registry, { driver, cache });
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await place.umount(mountpoint);
  });
});

describe.skipIf(!hasGolden)("golden images", () => {
  test.each(["plain", "hard"])("golden %s, converted by us, shows 0 differences", async (name) => {
    const place = await workspace();
    await place.tool(["convert", `oci:${golden(name, "oci")}:t`, `oci:${place.path("nydus")}:n`]);
    await place.mountEach(DRIVERS, `oci:${place.path("nydus")}:n`, async (mountpoint) => {
      expect(await checkGoldenTree(golden(name, "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });

  const converted = ["v6-zstd", "v6-none", "v6-lz4", "v6-chunk64k", "v6-prefetch", "v5-zstd", "v5-lz4"];
  test.each(converted)("golden %s of the reference converter shows 0 differences", async (name) => {
    const place = await workspace();
    await place.mountEach(DRIVERS, `oci:${golden("images", name)}:t`, async (mountpoint) => {
      expect(await checkGoldenTree(golden("plain", "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });

  test("golden v5-sha256 of the reference builder shows 0 differences", async () => {
    const place = await workspace();
    // What fed the builder had lost the empty xattr (golden README).
    const tree = await readFile(golden("plain", "tree.jsonl"), "utf8");
    await writeFile(place.path("tree.jsonl"), tree.replace('"user.empty": "", ', ""));
    const flags = ["--blobs", golden("direct", "v5-sha256", "blobs")];
    const look = async (mountpoint: string): Promise<void> =>
      expect(await checkGoldenTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await place.mountEach(DRIVERS, golden("direct", "v5-sha256", "bootstrap"), look, flags);
  });

  test.each([201, 202, 203, 204, 205])("golden generator's seed %i shows 0 differences", async (seed) => {
    const place = await workspace();
    await run("python3", [golden("make-layers.py"), String(seed), place.path("made")]);
    const layers = await Promise.all([1, 2, 3].map((n) => readFile(place.path("made", `layer${n}.tar`))));
    await writeLayout(place.path("source"), layers, { compression: ["gzip"] });
    await place.tool(["convert", `oci:${place.path("source")}:t`, `oci:${place.path("nydus")}:n`]);
    await place.mountEach(DRIVERS, `oci:${place.path("nydus")}:n`, async (mountpoint) => {
      expect(await checkGoldenTree(place.path("made", "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });
});

describe("mount", () => {
  let place: Workspace;
  let layout: string;

  beforeAll(async () => {
    place = await openWorkspace();
    const image = makeImage(301);
    await writeExpected(place.path("tree.jsonl"), image.tree);
    await writeLayout(place.path("source"), image.layers.map(tarOf));
    layout = `oci:${place.path("nydus")}:n`;
    await place.tool(["convert", `oci:${place.path("source")}:t`, layout]);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  test("mount reads everything a second time without any request", async () => {
    const registry = await startEmbeddedRegistry(place);
    await place.tool(["convert", `oci:${place.path("source")}:t`, `${registry.host}/i:n`]);
    await using proxy = await startCountingProxy(registry.host);
    const cache = place.path("twice");
    const first = await place.mount(`${proxy.host}/i:n`, { cache });
    expect(await checkTree(place.path("tree.jsonl"), first)).toMatch(NO_DIFFERENCES);
    const forData = () => proxy.requests.filter((request) => request.range !== null);
    expect(forData().length).toBeGreaterThan(0);
    expect(await checkTree(place.path("tree.jsonl"), first)).toMatch(NO_DIFFERENCES);
    await place.umount(first);

    proxy.reset();
    const second = await place.mount(`${proxy.host}/i:n`, { cache });
    const toMount = proxy.requests.length;
    expect(await checkTree(place.path("tree.jsonl"), second)).toMatch(NO_DIFFERENCES);
    expect(proxy.requests.slice(toMount)).toEqual([]);
    expect(forData()).toEqual([]);
    await place.umount(second);
  });

  test("mount fetches one file without fetching the image", async () => {
    const registry = await startEmbeddedRegistry(place);
    await place.tool([
      "convert",
      "--chunk-size",
      "64K",
      `oci:${place.path("source")}:t`,
      `${registry.host}/i:n`,
    ]);
    await using proxy = await startCountingProxy(registry.host);
    const mountpoint = await place.mount(`${proxy.host}/i:n`, { cache: place.path("one") });
    proxy.reset();
    const { stdout } = await run("sha256sum", [`${mountpoint}/data/noise-4096`]);
    const tree = await readFile(place.path("tree.jsonl"), "utf8");
    expect(tree).toContain(stdout.split(" ")[0] ?? "no digest");
    expect(proxy.requests.length).toBe(1);
    // One chunk, and what lies within the read-ahead after it.
    expect(proxy.blobBytes()).toBeLessThan(1.2 * 1024 * 1024);
    await place.umount(mountpoint);
  });

  test.each(DRIVERS)("mount --writable keeps changes apart from the image through %s", async (driver) => {
    const changes = place.path(`changes-${driver}`);
    await mkdir(changes);
    const flags = ["--writable", changes];
    const cache = place.path("shared-cache");
    const first = await place.mount(layout, { driver, cache, flags });
    const script =
      'cd "$1" && echo new > added && rm data/zeros && echo more >> data/prose-1 && mkdir -p a/b && mv names renamed';
    await run("sh", ["-ec", script, "sh", first]);
    await place.umount(first);

    const second = await place.mount(layout, { driver, cache, flags });
    const look =
      'cd "$1" && cat added && test ! -e data/zeros && tail -c 5 data/prose-1 && test -d a/b && test ! -e names && ls renamed | wc -l';
    const { stdout } = await run("sh", ["-ec", look, "sh", second]);
    expect(stdout).toMatch(/^new\nmore\n\d+\n$/);
    await place.umount(second);

    const untouched = await place.mount(layout, { driver, cache });
    expect(await checkTree(place.path("tree.jsonl"), untouched)).toMatch(NO_DIFFERENCES);
    await place.umount(untouched);
  });

  test.each(DRIVERS)("umount after mount through %s leaves no mount and no process", async (driver) => {
    const own = await workspace();
    const mountpoint = await own.mount(layout, { driver });
    await run("sh", ["-ec", 'cat "$1"/data/* | wc -c', "sh", mountpoint]);
    expect(own.mounts()).toContain(mountpoint);
    await own.umount(mountpoint);
    await expect.poll(() => own.processes(), { timeout: 5000 }).toEqual([]);
    expect(own.mounts()).toEqual([]);
    expect(await readdir(own.path("run"))).toEqual([]);
  });

  test("a mount stays beside a run directory that cannot be tidied up", async () => {
    const own = await workspace();
    // What others left: one that is damaged, and one that may go.
    for (const name of ["mount-1", "mount-2"]) {
      await mkdir(own.path("run", name), { recursive: true });
      await writeFile(own.path("run", name, "lock"), "");
    }
    await writeFile(own.path("run/mount-1/state.json"), "{");
    const mountpoint = await own.mount(layout);
    await expect.poll(() => readdir(own.path("run")), { timeout: 20_000 }).not.toContain("mount-2");
    expect(own.mounts()).toContain(mountpoint);
    await own.umount(mountpoint);
  });

  test("mount in the foreground says when it is ready and unmounts when it is interrupted", async () => {
    const own = await workspace();
    await mkdir(own.path("mnt"));
    const service = own.start("mount", [...own.mountWords(), layout, own.path("mnt")]);
    await expect.poll(() => own.log("mount"), { timeout: 20_000 }).toContain("mounted ");
    expect((await run("ls", [own.path("mnt")])).stdout).toContain("data");
    await service.stop("SIGINT");
    await expect.poll(() => own.processes(), { timeout: 5000 }).toEqual([]);
    expect(own.mounts()).toEqual([]);
  });

  test.each(DRIVERS)("the mount through %s is read-only", async (driver) => {
    const mountpoint = await place.mount(layout, { driver, cache: place.path("shared-cache") });
    const { code, stderr } = await run("touch", [`${mountpoint}/new`], { mayFail: true });
    expect(code).not.toBe(0);
    expect(stderr).toContain("Read-only file system");
    await place.umount(mountpoint);
  });

  test.each(DRIVERS)("the image's permissions decide who reads through %s", async (driver) => {
    const mountpoint = await place.mount(layout, { driver, cache: place.path("shared-cache") });
    await run("chmod", ["755", place.directory]);
    const read = (file: string) =>
      run("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "cat", `${mountpoint}/${file}`], {
        mayFail: true,
      });
    expect((await read("attributes/mode-444")).code).toBe(0);
    const denied = await read("attributes/mode-0");
    expect(denied.stderr).toContain("Permission denied");
    await place.umount(mountpoint);
  });

  test("the cache and the devices are root's alone", async () => {
    const mountpoint = await place.mount(layout, { cache: place.path("shared-cache") });
    await run("chmod", ["755", place.directory]);
    const looks = [place.path("shared-cache"), place.path("run")].map((directory) =>
      run("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "find", directory, "-type", "f"], {
        mayFail: true,
      }),
    );
    for (const look of await Promise.all(looks)) {
      expect(look.stderr).toContain("Permission denied");
      expect(look.stdout).toBe("");
    }
    await place.umount(mountpoint);
  });
});
