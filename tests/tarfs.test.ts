/**
 * Images over the tars that they were made of (tarfs), plain and compressed, by the built program.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { mountErofs } from "../lib/mount/erofs.ts";
import { openBootstrap } from "../lib/rafs/bootstrap.ts";
import { bootstrapOf, layersOf } from "../lib/rafs/oci-layout.test-support.ts";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { blobPath, type LayerCompression, writeLayout } from "./support/oci-layout.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "erofs-loop", "fuse"] as const;
const NO_DIFFERENCES = /, 0 differences$/;

interface Report {
  readonly targetDigest: string;
  readonly sourceSize: number;
  readonly targetSize: number;
  readonly layers: readonly { readonly original?: string }[];
}

/** A generated image as an OCI layout, and the tree that it must show. */
async function writeSource(
  place: Workspace,
  seed: number,
  compression: readonly LayerCompression[],
): Promise<string> {
  const image = makeImage(seed);
  await writeExpected(place.path("tree.jsonl"), image.tree);
  await writeLayout(place.path("source"), image.layers.map(tarOf), { compression });
  return `oci:${place.path("source")}:t`;
}

async function convert(place: Workspace, source: string, target: string): Promise<Report> {
  return JSON.parse((await place.tool(["convert", "--tarfs", "--json", source, target])).stdout) as Report;
}

describe("convert --tarfs", () => {
  test.each([
    { seed: 411, compression: ["gzip"] as const },
    { seed: 412, compression: ["none", "gzip-members", "zstd"] as const },
  ])("leaves the files in $compression layers and shows 0 differences", async ({ seed, compression }) => {
    const place = await workspace();
    const source = await writeSource(place, seed, compression);
    const target = `oci:${place.path("nydus")}:n`;
    const { targetDigest } = await convert(place, source, target);
    expect((await convert(place, source, target)).targetDigest).toBe(targetDigest);
    await place.tool(["check", "--data", target]);
    await place.mountEach(DRIVERS, target, async (mountpoint) => {
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });

  test("makes a bootstrap that the kernel reads with the plain tars as its devices", async () => {
    const place = await workspace();
    const source = await writeSource(place, 413, ["none"]);
    await convert(place, source, `oci:${place.path("nydus")}:n`);
    const bytes = await bootstrapOf(place.path("nydus"));
    const bootstrap = place.path("image.boot");
    await writeFile(bootstrap, bytes);
    const devices = openBootstrap(bytes).blobs.map(({ id }) =>
      blobPath(place.path("source"), `sha256:${id}`),
    );
    expect(devices.length).toBeGreaterThan(1);
    const mountpoint = place.path("mnt");
    await mkdir(mountpoint);
    mountErofs({ bootstrap, devices, mountpoint });
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
  });

  test("gets the layers into another repository, and copies take them along", async () => {
    const place = await workspace();
    const source = await writeSource(place, 414, ["gzip", "zstd"]);
    const { host } = await startEmbeddedRegistry(place);
    const { layers } = await convert(place, source, `${host}/first/tarfs:n`);
    expect(layers.map(({ original }) => original)).toEqual(layers.map(() => "sent"));
    await place.tool(["pull", `${host}/first/tarfs:n`, `${host}/second/tarfs:n`]);
    await place.tool(["convert", `${host}/second/tarfs:n`, `oci:${place.path("copy")}:n`]);
    for (const copy of [`${host}/second/tarfs:n`, `oci:${place.path("copy")}:n`]) {
      const mountpoint = await place.mount(copy, { cache: place.path(`cache-${copy.length}`) });
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
      await place.umount(mountpoint);
    }
    // A bootstrap by itself, with the layers in a registry.
    await writeFile(place.path("image.boot"), await bootstrapOf(place.path("copy")));
    const flags = ["--backend", `${host}/first/tarfs:n`];
    const seen = await place.mount(place.path("image.boot"), { flags, cache: place.path("cache-file") });
    expect(await checkTree(place.path("tree.jsonl"), seen)).toMatch(NO_DIFFERENCES);
    await place.umount(seen);
    // Back to an ordinary image.
    await place.tool(["convert", "--reverse", `${host}/second/tarfs:n`, `oci:${place.path("plain")}:p`]);
    await place.tool(["diff", source, `oci:${place.path("plain")}:p`]);
  });

  test.each([
    [["--oci-ref"], "two ways"],
    [["--compressor", "zstd"], "no chunks"],
    [["--encrypt"], "--encrypt does not"],
    [["--fs-version", "5"], "not for --fs-version 5"],
  ])("is refused together with %j", async (flags, reason) => {
    const place = await workspace();
    const words = ["convert", "--tarfs", ...flags, "oci:nowhere:t", "oci:nothing:n"];
    const { code, stderr } = await place.tool(words, { mayFail: true });
    expect(code).toBe(2);
    expect(stderr).toContain(reason);
  });
});

/** The tar that the golden tarfs bootstrap describes, in a directory under its digest. */
async function firstLayer(place: Workspace): Promise<{ blobs: string; image: string }> {
  const [layer = new Uint8Array()] = layersOf(golden("plain", "oci"));
  const { blobs } = JSON.parse(await readFile(golden("direct", "v6-tarfs", "result.json"), "utf8"));
  await mkdir(place.path("tars"));
  await writeFile(place.path("tars", blobs[0]), layer);
  await writeLayout(place.path("first"), [layer], { compression: ["none"] });
  await place.tool(["convert", `oci:${place.path("first")}:t`, `oci:${place.path("nydus")}:n`]);
  return { blobs: place.path("tars"), image: `oci:${place.path("nydus")}:n` };
}

describe.skipIf(!hasGolden)("golden v6-tarfs", () => {
  test("golden v6-tarfs shows the files of a plain tar on each driver, and unpacks", async () => {
    const place = await workspace();
    const { blobs, image } = await firstLayer(place);
    const bootstrap = golden("direct", "v6-tarfs", "bootstrap");
    const flags = ["--blobs", blobs];
    await place.tool(["check", "--data", ...flags, bootstrap]);
    await place.tool(["unpack", ...flags, bootstrap, place.path("out")]);
    await place.tool(["diff", image, `dir:${place.path("out")}`]);
    await place.tool(["diff", ...flags, bootstrap, image]);
    const same = (mountpoint: string) => place.tool(["diff", image, `dir:${mountpoint}`]);
    await place.mountEach(DRIVERS, bootstrap, same, flags);
  });

  test("golden v6-tarfs is refused with a tar that is not the one it was made of", async () => {
    const place = await workspace();
    const { blobs } = await firstLayer(place);
    const [name = ""] = await readdir(blobs);
    const tar = await readFile(place.path("tars", name));
    tar[5_000_000] = (tar[5_000_000] ?? 0) ^ 1;
    await writeFile(place.path("tars", name), tar);
    const words = ["--detach", "--blobs", blobs, golden("direct", "v6-tarfs", "bootstrap")];
    await mkdir(place.path("mnt"));
    const { stderr } = await place.tool([...place.mountWords(), ...words, place.path("mnt")], {
      mayFail: true,
    });
    expect(stderr).toMatch(/^nydus-tool: Cannot use tar "7c5cbe07.*": its content has digest /m);
  });
});

/** The golden bootstrap as if its tar had come compressed: its blob is named after that layer. */
async function overCompressed(
  place: Workspace,
  compression: LayerCompression,
): Promise<{ bootstrap: string; blobs: string; layout: string }> {
  const [tar = new Uint8Array()] = layersOf(golden("plain", "oci"));
  const layout = place.path("compressed");
  const { layers } = await writeLayout(layout, [tar], { compression: [compression] });
  const digest = layers[0]?.digest ?? "";
  const hex = digest.replace("sha256:", "");
  const { blobs } = JSON.parse(await readFile(golden("direct", "v6-tarfs", "result.json"), "utf8"));
  const bytes = await readFile(golden("direct", "v6-tarfs", "bootstrap"));
  for (let at = bytes.indexOf(blobs[0]); at >= 0; at = bytes.indexOf(blobs[0], at)) bytes.write(hex, at);
  await writeFile(place.path("image.boot"), bytes);
  await mkdir(place.path("layers"));
  await writeFile(place.path("layers", hex), await readFile(blobPath(layout, digest)));
  return { bootstrap: place.path("image.boot"), blobs: place.path("layers"), layout: `oci:${layout}:t` };
}

describe.skipIf(!hasGolden)("golden v6-tarfs over a compressed layer", () => {
  test.each(["gzip", "zstd-frames"] as const)(
    "golden v6-tarfs shows the same files over %s",
    async (compression) => {
      const place = await workspace();
      const { image } = await firstLayer(place);
      const { bootstrap, blobs } = await overCompressed(place, compression);
      const flags = ["--blobs", blobs];
      await place.tool(["check", "--data", ...flags, bootstrap]);
      await place.tool(["unpack", ...flags, bootstrap, place.path("out")]);
      await place.tool(["diff", image, `dir:${place.path("out")}`]);
      const same = (mountpoint: string) => place.tool(["diff", image, `dir:${mountpoint}`]);
      await place.mountEach(DRIVERS, bootstrap, same, flags);
    },
  );
});
