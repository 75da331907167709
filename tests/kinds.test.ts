/**
 * Images of every kind that `convert` writes, made and mounted by the built program: each must show what went in.
 */
import { truncate, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { NydusImage } from "../lib/image/nydus-image.ts";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { checkGoldenTree, golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
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
    for (const driver of DRIVERS) {
      const mountpoint = await place.mount(target, { driver, cache: place.path(driver) });
      expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
      await place.umount(mountpoint);
    }
  });
});

describe.skipIf(!hasGolden)("golden plain and hard", () => {
  test.each(["plain", "hard"])("golden %s, encrypted and batched, shows 0 differences", async (name) => {
    const place = await workspace();
    const target = `oci:${place.path("nydus")}:n`;
    await convert(place, ["--encrypt", "--batch-size", "1M", `oci:${golden(name, "oci")}:t`, target]);
    for (const driver of DRIVERS) {
      const mountpoint = await place.mount(target, { driver, cache: place.path(driver) });
      expect(await checkGoldenTree(golden(name, "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
      await place.umount(mountpoint);
    }
  });
});
