/**
 * Each kind of image that the built program writes, before all judges at once: its own check of every byte, the kernel,
 * and fsck.erofs, which shares no code with either.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const KINDS: readonly (readonly [kind: string, flags: readonly string[]])[] = [
  ["zstd", []],
  ["lz4 and BLAKE3", ["--compressor", "lz4_block", "--digester", "blake3"]],
  ["chunks of 4 KiB, none compressed", ["--chunk-size", "4K", "--compressor", "none"]],
  ["batches", ["--batch-size", "64K"]],
  ["encrypted batches", ["--encrypt", "--batch-size", "64K"]],
  ["OCI layers", ["--oci-ref"]],
  ["RAFS v5", ["--fs-version", "5"]],
];

/** Judges the bootstrap that the kernel was given, and the devices, which are numbered in its order. */
async function fsck(place: Workspace, mountpoint: string): Promise<string> {
  const mounts = (await readFile("/proc/mounts", "utf8")).split("\n").map((line) => line.split(" "));
  const [bootstrap = ""] = mounts.find(([, where]) => where === mountpoint) ?? [];
  const [, directory = ""] =
    mounts.find(([what, where = ""]) => what === "nydus-blobs" && where.startsWith(place.path("run"))) ?? [];
  const devices: string[] = [];
  while (existsSync(`${directory}/${devices.length}`))
    devices.push(`--device=${directory}/${devices.length}`);
  expect(devices.length).toBeGreaterThan(0);
  // Extracting to nowhere reads the data too.
  const { stdout, stderr } = await run("fsck.erofs", ["--extract", ...devices, bootstrap]);
  return stdout + stderr;
}

async function writeSource(place: Workspace, seed: number): Promise<string> {
  const image = makeImage(seed);
  await writeExpected(place.path("tree.jsonl"), image.tree);
  await writeLayout(place.path("source"), image.layers.map(tarOf), { compression: ["gzip"] });
  return `oci:${place.path("source")}:t`;
}

test.each(KINDS)("an image of %s is good to every judge", async (_, flags) => {
  const place = await workspace();
  const source = await writeSource(place, 600 + flags.length);
  const target = `oci:${place.path("nydus")}:n`;
  await place.tool(["convert", ...flags, source, target]);
  await place.tool(["check", "--data", target]);
  const mountpoint = await place.mount(target, { driver: "erofs" });
  expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(/, 0 differences$/);
  expect(await fsck(place, mountpoint)).not.toMatch(/<E>|error|corrupt/i);
});
