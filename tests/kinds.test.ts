/**
 * Images of every kind that `convert` writes, made and mounted by the built program: each must show what went in.
 */
import { truncate, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { byteStringOf } from "../lib/base/byte-string.ts";
import { NydusImage } from "../lib/image/nydus-image.ts";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { checkGoldenTree, golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { type TarItem, tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "fuse"] as const;
const NO_DIFFERENCES = /, 0 differences$/;

const KINDS: readonly (readonly [name: string, flags: readonly string[]])[] = [
  ["batches", ["--batch-size", "1M"]],
  ["small batches, uncompressed", ["--batch-size", "16K", "--compressor", "none"]],
  ["encryption", ["--encrypt"]],
  ["encrypted batches, lz4", ["--encrypt", "--batch-size", "128K", "--compressor", "lz4_block"]],
  ["the smallest chunks", ["--chunk-size", "4K"]],
  ["the largest chunks", ["--chunk-size", "16M", "--digester", "blake3"]],
];

async function convert(place: Workspace, words: readonly string[]): Promise<string> {
  return (JSON.parse((await place.tool(["convert", "--json", ...words])).stdout) as { targetDigest: string })
    .targetDigest;
}

/** What erofs-utils says of the image's bootstrap; it looks at the devices' sizes, not into them. */
async function fsck(place: Workspace, location: string): Promise<string> {
  await using image = await NydusImage.open({ location });
  await writeFile(place.path("bootstrap"), image.bootstrap.bytes);
  const devices: string[] = [];
  for (const { id, uncompressedSize } of image.bootstrap.blobs) {
    await writeFile(place.path(id), "");
    await truncate(place.path(id), uncompressedSize);
    devices.push(`--device=${place.path(id)}`);
  }
  const { stdout, stderr } = await run("fsck.erofs", [...devices, place.path("bootstrap")]);
  return stdout + stderr;
}

describe.each(KINDS)("convert with %s", (_, flags) => {
  test("gives the same bytes again, whole and right on each driver", async () => {
    const place = await workspace();
    const image = makeImage(501);
    await writeExpected(place.path("tree.jsonl"), image.tree);
    await writeLayout(place.path("source"), image.layers.map(tarOf), { compression: ["gzip"] });
    const source = `oci:${place.path("source")}:t`;
    const target = `oci:${place.path("nydus")}:n`;
    const digest = await convert(place, [...flags, source, target]);
    expect(await convert(place, [...flags, source, `oci:${place.path("again")}:n`])).toBe(digest);
    await place.tool(["check", "--data", target]);
    expect(await fsck(place, target)).not.toMatch(/<E>|error/i);
    await place.mountEach(DRIVERS, target, async (mountpoint) => {
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });
});

test("convert writes a prefetch table from lists of files, directories and patterns", async () => {
  const place = await workspace();
  const file = (path: string): TarItem => ({ path, type: "file", data: Buffer.from(path) });
  const items = ["bin/sh", "lib/a.so", "lib/b.so", "lib/c.txt", "srv/data"].map(file);
  await writeLayout(place.path("source"), [tarOf(items)]);
  await writeFile(
    place.path("files.json"),
    JSON.stringify({ files: [{ path: "/bin/sh" }, { path: "/none" }] }),
  );
  const target = `oci:${place.path("nydus")}:n`;
  const flags = ["--prefetch-patterns", "-", "--prefetch-files", place.path("files.json"), "--json"];
  const { stdout } = await place.tool(["convert", ...flags, `oci:${place.path("source")}:t`, target], {
    input: "/srv\n/lib/*.so\n/srv/data\n",
  });
  expect(JSON.parse(stdout)).toMatchObject({ prefetchUnmatched: ["/none"] });
  await using image = await NydusImage.open({ location: target });
  const { bootstrap } = image;
  if (bootstrap.version !== 6) throw new Error("not RAFS v6");
  const { offset, size } = bootstrap.superblock.prefetchTable;
  const table = Array.from({ length: size / 4 }, (_, i) => bootstrap.view.getUint32(offset + 4 * i, true));
  const nidOf = (path: string): number | undefined =>
    path
      .split("/")
      .reduce<number | undefined>(
        (nid, name) => (nid === undefined ? nid : bootstrap.lookup(nid, byteStringOf(name))),
        bootstrap.rootNid,
      );
  expect(table).toEqual(["srv", "lib/a.so", "lib/b.so", "bin/sh"].map(nidOf));
});

describe.skipIf(!hasGolden)("golden plain and hard", () => {
  test.each(["plain", "hard"])("golden %s, encrypted and batched, shows 0 differences", async (name) => {
    const place = await workspace();
    const target = `oci:${place.path("nydus")}:n`;
    await convert(place, ["--encrypt", "--batch-size", "1M", `oci:${golden(name, "oci")}:t`, target]);
    await place.mountEach(DRIVERS, target, async (mountpoint) => {
      expect(await checkGoldenTree(golden(name, "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
    });
  });
});
