import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeImage } from "../../tests/support/make-image.ts";
import { writeNydusLayout } from "../../tests/support/nydus-layout.ts";
import { blobPath } from "../../tests/support/oci-layout.ts";
import type { TarItem } from "../../tests/support/tar-builder.ts";
import { corrupt } from "../base/error.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { OciLayout } from "../content/oci-layout.ts";
import { type Image, loadImage } from "../image/load.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { dumpTree } from "../tree/dump.ts";
import { convertImage } from "./image.ts";
import { reverse, reverseImage } from "./reverse.ts";

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "reverse-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

async function reversed(nydus: string, name = "back"): Promise<{ image: Image; location: string }> {
  const directory = join(place, name);
  const location = `oci:${directory}:t`;
  await reverse({ location: nydus, target: location });
  return { image: await loadImage(await OciLayout.open(directory), "t"), location };
}

/** All that a mount would show, with the digests of every file's chunks. */
async function shown(nydus: string): Promise<string[]> {
  await using image = await NydusImage.open({ location: nydus });
  return [...dumpTree(image.root)];
}

async function nydusAgain(image: Image): Promise<string[]> {
  const directory = join(place, "again");
  const store = await OciLayout.open(directory, { create: true });
  const source = { store: await OciLayout.open(join(place, "back")), image };
  const format = { compressor: "none", digester: "sha256", chunkSize: 2 ** 20 } as const;
  await convertImage(source, { store, reference: "n" }, format);
  return await shown(`oci:${directory}:n`);
}

const file = (path: string, data: string): TarItem => ({ path, type: "file", data: Buffer.from(data) });

describe.each([421, 422, 423])("image made from seed %i", (seed) => {
  test("reverse() restores layers that make the same tree", async () => {
    const { layers } = makeImage(seed);
    const { nydus } = await writeNydusLayout(place, layers);
    const { image } = await reversed(nydus);
    expect(image.layers).toHaveLength(layers.length);
    expect(await nydusAgain(image)).toEqual(await shown(nydus));
  });
});

test("reverse() brings back what upper layers hide, and the history of each layer", async () => {
  const lower = [file("hidden", "a".repeat(5000)), file("kept", "b")];
  const upper = [file(".wh.hidden", ""), file("new", "c")];
  const { nydus, plain } = await writeNydusLayout(place, [lower, upper]);
  const { image, location } = await reversed(nydus);
  const original = await loadImage(await OciLayout.open(plain.split(":")[1] ?? ""), "t");
  expect(image.config.history).toEqual(original.config.history);
  expect(image.config.config).toEqual(original.config.config);
  expect(image.manifest.annotations).toEqual(original.manifest.annotations);
  const tars = await Promise.all(image.layers.map(({ descriptor }) => layerTar(location, descriptor.digest)));
  expect(tars[0]).toContain("a".repeat(5000));
  expect(tars[1]).toContain(".wh.hidden");
});

async function layerTar(location: string, digest: string): Promise<string> {
  const gzip = await readFile(blobPath(location.split(":")[1] ?? "", digest));
  return Buffer.from(Bun.gunzipSync(gzip)).toString("latin1");
}

test("reverse() makes one layer where the blobs hold no bootstraps, and says why", async () => {
  const { nydus, directory } = await writeNydusLayout(place, [[file("a", "1")], [file("b", "2")]]);
  await using image = await NydusImage.open({ location: nydus });
  const manifest = image.image?.manifest;
  const blobs = manifest?.layers.slice(0, -1) ?? [];
  // As a converter that writes no table of contents leaves them: the data and nothing behind it.
  for (const { digest } of blobs) {
    const path = blobPath(directory, digest);
    await writeFile(path, (await readFile(path)).subarray(0, 1200));
  }
  const store = new MemoryStore();
  const report = await reverseImage(image, { store, reference: "t" });
  expect(report.layers).toHaveLength(1);
  expect(report.squashed).toMatch(/^Cannot /);
  const back = await loadImage(store, "t");
  const steps = back.config.history?.filter((step) => step.empty_layer !== true);
  expect(steps).toEqual([{ created_by: "nydus-tool convert --reverse" }]);
});

test("reverse() gives the same bytes each time, from differently made blobs too", async () => {
  const { layers } = makeImage(424);
  const one = await writeNydusLayout(place, layers, { name: "one" });
  const options = { name: "two", compressor: "lz4_block", chunkSize: 4096, digester: "blake3" } as const;
  const two = await writeNydusLayout(place, layers, options);
  const digests = [];
  for (const [i, { nydus }] of [one, one, two].entries())
    digests.push((await reversed(nydus, `back${i}`)).image.descriptor.digest);
  expect(new Set(digests).size).toBe(1);
});

test("reverse() names nothing in the target when data is damaged", async () => {
  const { nydus, directory } = await writeNydusLayout(place, [[file("a", "x".repeat(10_000))]], {
    compressor: "none",
  });
  const image = await loadImage(await OciLayout.open(directory), "n");
  const path = blobPath(directory, image.layers[0]?.descriptor.digest ?? "");
  const blob = await readFile(path);
  await writeFile(path, blob.fill(0, 1024, 1124));
  await expect(reversed(nydus)).rejects.toMatchObject({ code: "corrupt" });
  await expect(loadImage(await OciLayout.open(join(place, "back")), "t")).rejects.toMatchObject({
    code: "not_found",
  });
});

test("reverse() stops at its signal and passes on why", async () => {
  const { nydus } = await writeNydusLayout(place, [[file("a", "1")]]);
  await using image = await NydusImage.open({ location: nydus });
  const signal = AbortSignal.abort(corrupt("Cannot go on: enough"));
  await expect(reverseImage(image, { store: new MemoryStore() }, { signal })).rejects.toThrow();
});
