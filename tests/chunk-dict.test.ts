/**
 * Images that share chunks, by the built program: what ten versions of a base image take, and that they can be read from
 * wherever they are put.
 */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { checkTree, writeExpected } from "./support/check-tree.ts";
import { startDockerRegistry } from "./support/docker-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { makeVersions } from "./support/versions.ts";
import { type Workspace, workspace } from "./support/workspace.ts";

interface Report {
  readonly targetDigest: string;
  readonly layers: readonly { readonly chunks: number; readonly size: number }[];
  readonly dictionaryBlobs?: readonly { readonly digest: string; readonly how: string }[];
}

const NO_DIFFERENCES = /, 0 differences$/;

async function convert(place: Workspace, ...words: string[]): Promise<Report> {
  return JSON.parse((await place.tool(["convert", "--json", ...words])).stdout) as Report;
}

/** Bytes of all blobs of layouts, each once. */
async function roomOf(...layouts: readonly string[]): Promise<number> {
  const sizes = new Map<string, number>();
  for (const layout of layouts) {
    const blobs = join(layout, "blobs/sha256");
    for (const name of await readdir(blobs)) sizes.set(name, (await stat(join(blobs, name))).size);
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

async function writeVersions(
  place: Workspace,
  seed: number,
  count: number,
  files: number,
): Promise<string[]> {
  const layers = makeVersions(seed, { versions: count, files });
  const layouts = layers.map((_, i) => place.path(`oci${i}`));
  for (const [i, layer] of layers.entries())
    await writeLayout(layouts[i] ?? "", [tarOf(layer)], { compression: ["gzip"] });
  return layouts;
}

async function expectSameTrees(place: Workspace, one: string, other: string): Promise<void> {
  const [a, b] = [place.path("tree-a"), place.path("tree-b")];
  await place.tool(["unpack", one, a]);
  await place.tool(["unpack", other, b]);
  await run("diff", ["-r", a, b]);
}

test("ten versions of a base image take less room than their originals", async () => {
  const place = await workspace();
  const layouts = await writeVersions(place, 61, 10, 700);
  const [plain, shared] = [place.path("plain"), place.path("shared")];
  for (const [i, layout] of layouts.entries()) {
    await convert(place, `oci:${layout}:t`, `oci:${plain}:v${i}`);
    const dictionary = i === 0 ? [] : ["--chunk-dict", `oci:${shared}:v${i - 1}`];
    await convert(place, ...dictionary, `oci:${layout}:t`, `oci:${shared}:v${i}`);
  }
  const room = await roomOf(shared);
  expect(room).toBeLessThan((await roomOf(...layouts)) / 2);
  expect(room).toBeLessThan((await roomOf(plain)) / 2);
  await place.tool(["check", "--data", `oci:${shared}:v9`]);
  await expectSameTrees(place, `oci:${shared}:v9`, `oci:${plain}:v9`);
});

test("a generated dictionary serves an image that none of its sources is", async () => {
  const place = await workspace();
  const layouts = await writeVersions(place, 62, 4, 150);
  const images = layouts.map((_, i) => `oci:${place.path("nydus")}:v${i}`);
  for (const [i, layout] of layouts.entries()) await convert(place, `oci:${layout}:t`, images[i] ?? "");
  const dict = `oci:${place.path("nydus")}:dict`;
  await place.tool(["chunkdict", "generate", ...images.slice(0, 3), dict]);
  await place.tool(["chunkdict", "generate", "-o", place.path("dict.boot"), ...images.slice(0, 3)]);
  await place.tool(["check", "--data", dict]);
  await place.tool(["check", place.path("dict.boot")]);
  const source = `oci:${layouts[3]}:t`;
  const target = `oci:${place.path("nydus")}:shared`;
  const alone = await convert(place, source, images[3] ?? "");
  const first = await convert(place, "--chunk-dict", dict, source, target);
  // A bootstrap file does not say where its blobs are: here they are in the target already.
  const again = await convert(place, "--chunk-dict", place.path("dict.boot"), source, target);
  expect(again.targetDigest).toBe(first.targetDigest);
  expect(first.dictionaryBlobs?.length).toBe(3);
  expect(first.layers[0]?.chunks).toBeLessThan((alone.layers[0]?.chunks ?? 0) / 5);
  await expectSameTrees(place, target, images[3] ?? "");
});

test("an image that refers to a dictionary's blobs is read from another repository, and back again", async () => {
  const place = await workspace();
  const images = [71, 72].map((seed) => makeImage(seed));
  const layouts: string[] = [];
  for (const [i, { layers }] of images.entries())
    layouts.push((await writeLayout(place.path(`oci${i}`), layers.map(tarOf))).directory);
  await using registry = await startDockerRegistry(place.path("registry"));
  const [base, app] = [`${registry.host}/team/base:n`, `${registry.host}/app:n`];
  await convert(place, `oci:${layouts[0]}:t`, base);
  const report = await convert(place, "--chunk-dict", base, `oci:${layouts[1]}:t`, app);
  const how = (found: Report): string[] => (found.dictionaryBlobs ?? []).map((blob) => blob.how);
  expect(how(report)).toEqual(how(report).map(() => "mounted"));
  expect(how(report).length).toBeGreaterThan(0);
  await place.tool(["check", "--data", app]);
  await writeExpected(place.path("tree.jsonl"), images[1]?.tree ?? []);
  await place.mountEach(["erofs", "fuse"], app, async (mountpoint) => {
    expect(await checkTree(place.path("tree.jsonl"), mountpoint)).toMatch(NO_DIFFERENCES);
  });
  // Elsewhere they are sent; and they are no layers of the ordinary image.
  const moved = await convert(
    place,
    "--chunk-dict",
    base,
    `oci:${layouts[1]}:t`,
    `oci:${place.path("moved")}:n`,
  );
  expect(how(moved)).toEqual(how(moved).map(() => "sent"));
  const back = await convert(place, "--reverse", app, `oci:${place.path("back")}:t`);
  expect(back.layers.length).toBe(images[1]?.layers.length);
});

test("RAFS v5 images share chunks too, and then are alike without a flag", async () => {
  const place = await workspace();
  const [first = "", second = ""] = await writeVersions(place, 64, 2, 60);
  const [base, next] = [`oci:${place.path("nydus")}:base`, `oci:${place.path("nydus")}:next`];
  const v5 = ["--fs-version", "5", "--compressor", "lz4_block", "--digester", "blake3"];
  const alone = await convert(place, ...v5, `oci:${second}:t`, `oci:${place.path("alone")}:n`);
  await convert(place, ...v5, `oci:${first}:t`, base);
  await place.tool(["chunkdict", "generate", base, `oci:${place.path("nydus")}:dict`]);
  for (const dictionary of [base, `oci:${place.path("nydus")}:dict`]) {
    const report = await convert(place, "--chunk-dict", dictionary, `oci:${second}:t`, next);
    expect(report.layers[0]?.chunks).toBeLessThan((alone.layers[0]?.chunks ?? 0) / 5);
    await place.tool(["check", "--data", next]);
  }
  await expectSameTrees(place, next, `oci:${place.path("alone")}:n`);
  const other = ["--chunk-dict", base, "--compressor", "zstd", `oci:${second}:t`, next];
  const { stderr } = await place.tool(["convert", ...other], { mayFail: true });
  expect(stderr).toMatch(/compressed by lz4_block, not zstd/);
});

test("dictionaries that do not fit are refused with a sentence", async () => {
  const place = await workspace();
  const [layout = ""] = await writeVersions(place, 63, 1, 20);
  const source = `oci:${layout}:t`;
  const nydus = `oci:${place.path("nydus")}:n`;
  await convert(place, "--digester", "blake3", "--chunk-size", "64K", source, nydus);
  const refused = async (...words: string[]): Promise<string> => {
    const target = `oci:${place.path("other")}:n`;
    const { code, stderr } = await place.tool(["convert", ...words, source, target], { mayFail: true });
    expect(code).not.toBe(0);
    return stderr;
  };
  expect(await refused("--chunk-dict", nydus, "--chunk-size", "1M")).toMatch(/65536 bytes, not 1048576/);
  expect(await refused("--chunk-dict", nydus, "--digester", "sha256")).toMatch(/named by blake3/);
  expect(await refused("--chunk-dict", nydus, "--fs-version", "5")).toMatch(/it is RAFS v6, not 5/);
  expect(await refused("--chunk-dict", nydus, "--oci-ref")).toMatch(/--oci-ref leaves the data as it is/);
  expect(await refused("--chunk-dict", source)).toMatch(/convert it first/);
  await place.tool(["chunkdict", "generate", "-o", place.path("file"), nydus]);
  expect(await refused("--chunk-dict", place.path("file"))).toMatch(/name the image that it is from/);
  // Without flags the image is like its dictionary.
  const report = await convert(place, "--chunk-dict", nydus, source, `oci:${place.path("nydus")}:again`);
  expect(report.layers[0]?.chunks).toBe(0);
});
