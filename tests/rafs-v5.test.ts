/**
 * Images that the built program writes as RAFS v5: for readers that know nothing newer.
 */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { checkGoldenTree, golden, hasGolden } from "./support/golden.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { tarOf } from "./support/tar-builder.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

const NO_DIFFERENCES = /, 0 differences$/;

interface Report {
  readonly targetDigest: string;
  readonly squashed?: string;
}

/** The same image in the OCI layout `source`, with the tree that it must show in `tree.jsonl`. */
async function writeSource(place: Workspace, seed: number): Promise<string> {
  const image = makeImage(seed);
  await writeExpected(place.path("tree.jsonl"), image.tree);
  await writeLayout(place.path("source"), image.layers.map(tarOf), { compression: ["gzip"] });
  return `oci:${place.path("source")}:t`;
}

async function convert(place: Workspace, ...words: string[]): Promise<Report> {
  return JSON.parse((await place.tool(["convert", "--json", ...words])).stdout) as Report;
}

test.each([
  { seed: 501, flags: ["--compressor", "zstd", "--digester", "sha256"] },
  { seed: 502, flags: ["--compressor", "lz4_block", "--digester", "blake3", "--chunk-size", "64K"] },
  { seed: 503, flags: ["--compressor", "none", "--digester", "blake3", "--chunk-size", "4K"] },
])("convert --fs-version 5 $flags is whole and shows 0 differences", async ({ seed, flags }) => {
  const place = await workspace();
  const source = await writeSource(place, seed);
  const target = `oci:${place.path("nydus")}:n`;
  const words = ["--fs-version", "5", ...flags, source, target];
  const { targetDigest } = await convert(place, ...words);
  expect((await convert(place, ...words)).targetDigest).toBe(targetDigest);
  const manifest = await readFile(place.path("nydus", "blobs", targetDigest.replace(":", "/")), "utf8");
  expect(manifest.match(/"containerd.io\/snapshot\/nydus-fs-version":"5"/g)).toHaveLength(2);
  await place.tool(["check", "--data", target]);
  await place.mountEach(["erofs", "fuse"], target, async (mountpoint) => {
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
  });
});

test("an image in RAFS v5 becomes an ordinary one again, layer by layer", async () => {
  const place = await workspace();
  const source = await writeSource(place, 504);
  const nydus = `oci:${place.path("nydus")}:n`;
  await convert(place, "--fs-version", "5", source, nydus);
  const report = await convert(place, "--reverse", nydus, `oci:${place.path("back")}:b`);
  expect(report.squashed).toBeUndefined();
  await convert(place, `oci:${place.path("back")}:b`, `oci:${place.path("again")}:n`);
  await place.tool(["unpack", `oci:${place.path("again")}:n`, place.path("out")]);
  expect(await checkTree(place.path("tree.jsonl"), place.path("out"))).toMatch(NO_DIFFERENCES);
});

test("convert refuses --fs-version 5 together with --oci-ref, which it cannot say", async () => {
  const place = await workspace();
  const source = await writeSource(place, 505);
  const words = ["convert", "--oci-ref", "--fs-version", "5", source, `oci:${place.path("nydus")}:n`];
  const { code, stderr } = await place.tool(words, { mayFail: true });
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: expect.stringMatching(/^nydus-tool: Cannot convert: --oci-ref is not for --fs-version 5/),
  });
});

test.skipIf(!hasGolden)("golden hard as RAFS v5 shows 0 differences on each driver", async () => {
  const place = await workspace();
  const target = `oci:${place.path("nydus")}:n`;
  await convert(place, "--fs-version", "5", `oci:${golden("hard", "oci")}:t`, target);
  await place.mountEach(["erofs", "fuse"], target, async (mountpoint) => {
    expect(await checkGoldenTree(golden("hard", "tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
  });
});
