/**
 * Images that are no Nydus images (eStargz, zstd:chunked, plain OCI layers), mounted by the built program on both
 * drivers.
 */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { checkGoldenTree, golden, hasGolden } from "./support/golden.ts";
import { type MadeImage, makeImage } from "./support/make-image.ts";
import { blobPath, writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type StoredLayer, type TocOptions, tocLayer } from "./support/toc-builder.ts";
import { type MountReport, type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "fuse"] as const;
const NO_DIFFERENCES = /, 0 differences$/;

describe.skipIf(!hasGolden)("golden images of others", () => {
  test.each([
    ["images/estargz", "plain"],
    ["images/zstdchunked", "plain"],
    ["plain/oci", "plain"],
    ["hard/oci", "hard"],
  ])("golden %s shows 0 differences on each driver, and unpacked", async (name, tree) => {
    const place = await workspace();
    const image = `oci:${golden(name)}:t`;
    const expected = golden(tree, "tree.jsonl");
    await place.mountEach(DRIVERS, image, async (mountpoint) => {
      expect(await checkGoldenTree(expected, mountpoint)).toMatch(NO_DIFFERENCES);
    });
    await place.tool(["unpack", image, place.path("unpacked")]);
    expect(await checkGoldenTree(expected, place.path("unpacked"))).toMatch(NO_DIFFERENCES);
    await place.tool(["check", "--data", image]);
  });
});

const isText = (bytes: string): boolean => !Buffer.from(bytes, "latin1").toString("utf8").includes("\ufffd");

/** JSON cannot hold all names: such entries are left out, so that a table of contents is all it takes. */
function textOnly({ layers, tree }: MadeImage): MadeImage {
  return {
    layers: layers.map((layer) => layer.filter(({ path, target = "" }) => isText(path) && isText(target))),
    tree: tree.filter(({ path, target = "" }) => isText(path) && isText(target)),
  };
}

async function writeImage(
  place: Workspace,
  { layers, tree }: MadeImage,
  formats: readonly TocOptions[],
): Promise<string> {
  await writeExpected(place.path("tree.jsonl"), tree);
  const stored = layers.map((items, i): StoredLayer | Uint8Array => {
    const format = formats[i];
    return format === undefined ? tarOf(items) : tocLayer(items, format);
  });
  await writeLayout(place.path("image"), stored);
  return `oci:${place.path("image")}:t`;
}

/** What `status` says about the only mount. */
async function statusOf(place: Workspace): Promise<MountReport & { readonly format: string }> {
  const { stdout } = await place.tool(["status", "--json", "--run-dir", place.path("run")]);
  const { mounts } = JSON.parse(stdout) as { mounts: (MountReport & { format: string })[] };
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1) throw new Error(`${mounts.length} mounts`);
  return mount;
}

const ESTARGZ: TocOptions = { format: "estargz", chunkSize: 100_000 };
const GROUPED: TocOptions = { format: "estargz", chunkSize: 60_000, minStream: 50_000 };
const ZSTD: TocOptions = { format: "zstd:chunked", landmark: ".prefetch.landmark" };
const PODMAN: TocOptions = { format: "podman", chunkSize: 30_000 };

describe("mount of layers with a table of contents", () => {
  test.each([
    { seed: 501, formats: [ESTARGZ, ESTARGZ, GROUPED], format: "eStargz" },
    { seed: 502, formats: [PODMAN, ZSTD, PODMAN], format: "zstd:chunked" },
    { seed: 503, formats: [GROUPED, PODMAN], format: "OCI, indexed + eStargz + zstd:chunked" },
  ])("shows 0 differences for seed $seed, and is lazy", async ({ seed, formats, format }) => {
    const place = await workspace();
    const image = await writeImage(place, textOnly(makeImage(seed)), formats);
    await place.mountEach(DRIVERS, image, async (mountpoint, driver) => {
      expect(await statusOf(place)).toMatchObject({ format, driver, fetchedBytes: 0 });
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
      const { corruptChunks, requests } = await statusOf(place);
      expect(corruptChunks).toBe(0);
      // Neighbours come together.
      expect(requests).toBeLessThan(100);
    });
    await place.tool(["check", "--data", image]);
    await place.tool(["unpack", image, place.path("unpacked")]);
    expect(await checkTree(place.path("tree.jsonl"), place.path("unpacked"))).toMatch(NO_DIFFERENCES);
  });

  test("takes a layer's tar where its table has lost names", async () => {
    const place = await workspace();
    const image = await writeImage(place, makeImage(504), [ESTARGZ, PODMAN, ZSTD]);
    const mountpoint = await place.mount(image);
    expect((await statusOf(place)).format).toContain("OCI, indexed");
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
  });

  test("works from a registry, and goes on when the serving process is killed", async () => {
    const place = await workspace();
    const image = await writeImage(place, textOnly(makeImage(505)), [ESTARGZ, PODMAN, ZSTD]);
    const { host } = await startEmbeddedRegistry(place);
    await place.tool(["pull", image, `${host}/app:t`]);
    const mountpoint = await place.mount(`${host}/app:t`);
    const pids = await place.processes();
    for (const pid of pids)
      if ((await place.commandOf(pid)).includes("mount-server")) process.kill(pid, "SIGKILL");
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    expect((await statusOf(place)).format).toBe("eStargz + zstd:chunked");
  });
});

describe("mount of plain layers", () => {
  test.each([
    { seed: 511, compression: ["gzip", "none", "gzip-members"] as const, format: "OCI, indexed" },
    {
      seed: 512,
      compression: ["zstd", "zstd-frames", "gzip"] as const,
      format: "OCI, indexed + OCI, packed",
    },
  ])("shows 0 differences for $compression, and reads the layers once", async (options) => {
    const place = await workspace();
    const { seed, compression, format } = options;
    const image = makeImage(seed);
    await writeExpected(place.path("tree.jsonl"), image.tree);
    const written = await writeLayout(place.path("image"), image.layers.map(tarOf), { compression });
    const source = `oci:${place.path("image")}:t`;
    const mountpoint = await place.mount(source, { driver: "fuse" });
    expect((await statusOf(place)).format).toBe(format);
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    await place.umount(mountpoint);
    // Everything is in the cache now: neither index nor data is asked for again.
    for (const { digest } of written.layers) await rm(blobPath(place.path("image"), digest), { force: true });
    const again = await place.mount(source, { driver: "erofs" });
    expect(await checkTree(place.path("tree.jsonl"), again)).toMatch(NO_DIFFERENCES);
  });

  test("may come from archives of docker and OCI", async () => {
    const place = await workspace();
    const image = makeImage(514);
    await writeExpected(place.path("tree.jsonl"), image.tree);
    await writeLayout(place.path("image"), image.layers.map(tarOf));
    const source = `oci:${place.path("image")}:t`;
    for (const archive of [`docker-archive:${place.path("d.tar")}`, `oci-archive:${place.path("o.tar")}`]) {
      await run("skopeo", ["copy", source, `${archive}:app:t`]);
      const mountpoint = await place.mount(archive, { cache: place.path(archive.slice(0, 3)) });
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
      await place.umount(mountpoint);
    }
  });

  test("fails in one line when a layer is not what the manifest says", async () => {
    const place = await workspace();
    const written = await writeLayout(place.path("image"), makeImage(513).layers.map(tarOf));
    const [, layer] = written.layers;
    const path = blobPath(place.path("image"), layer?.digest ?? "");
    const bytes = await readFile(path);
    const middle = bytes.byteLength >> 1;
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
    await writeFile(path, bytes);
    const words = [...place.mountWords(), `oci:${place.path("image")}:t`, place.directory];
    const { code, stderr } = await place.tool(words, { mayFail: true });
    expect(code).toBe(11);
    expect(stderr.trim().split("\n").at(-1)).toMatch(/^nydus-tool: Cannot .*/);
    expect(await readdir(place.path("cache", "adopted"))).toEqual([]);
  });
});
