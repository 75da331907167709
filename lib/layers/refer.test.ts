import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeImage } from "../../tests/support/make-image.ts";
import { writeLayout } from "../../tests/support/oci-layout.ts";
import { type TarItem, tarOf } from "../../tests/support/tar-builder.ts";
import { sha256Of } from "../../tests/support/toc-builder.ts";
import { OciLayout } from "../content/oci-layout.ts";
import { convert } from "../convert/convert.ts";
import type { ConvertOptions } from "../convert/image.ts";
import { type Image, loadImage } from "../image/load.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { dumpTree } from "../tree/dump.ts";
import type { ChunkRef, Directory } from "../tree/tree.ts";
import { adoptLowest, adoptReferring, assertFits } from "./refer.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "refer-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

type Layers = readonly (readonly TarItem[])[];

interface Converted {
  readonly store: OciLayout;
  /** As `openStore` takes it, and what became of it in the same store. */
  readonly location: string;
  readonly ordinary: Image;
  readonly nydus: Image;
}

async function converted(
  name: string,
  layers: Layers,
  options: Partial<ConvertOptions> = {},
): Promise<Converted> {
  const { directory, tag } = await writeLayout(join(root, name), layers.map(tarOf));
  const location = `oci:${directory}:${tag}`;
  await convert({ source: location, target: `oci:${directory}:n`, concurrency: 1, ...options });
  const store = await OciLayout.open(directory);
  return { store, location, ordinary: await loadImage(store, tag), nydus: await loadImage(store, "n") };
}

/** The ordinary image's lowest layers, as a mount would show them. */
async function shown({ location, ordinary, nydus }: Converted, count: number): Promise<string[]> {
  const layers = ordinary.layers.length;
  const place = join(root, `adopted-${layers}-${count}`);
  await using image = await NydusImage.open({
    location,
    adopt: async (store) =>
      count === layers
        ? await adoptReferring(store, nydus, place)
        : await adoptLowest(store, nydus, { ordinary: layers, count }, place),
  });
  return [...dumpTree(image.root), ...(await contents(image))];
}

async function contents(image: NydusImage): Promise<string[]> {
  const data = await Array.fromAsync(image.chunks(chunksIn(image.root)));
  return data.map((bytes) => sha256Of(bytes));
}

function chunksIn({ entries }: Directory): ChunkRef[] {
  return [...entries.values()].flatMap((node) => {
    if (node.kind === "directory") return chunksIn(node);
    return node.kind === "file" ? node.chunks : [];
  });
}

const FORMATS: Readonly<Record<string, Partial<ConvertOptions>>> = {
  "RAFS v6": {},
  "RAFS v5": { fsVersion: 5 },
  "with batches and encryption": { batchSize: 2 ** 16, encrypt: true },
  "that refers to the original layers": { reference: true },
};

test.each(Object.entries(FORMATS))(
  "the lowest layers of an image %s are as they were",
  async (_, options) => {
    const { layers } = makeImage(7);
    const all = await converted("all", layers, options);
    const alone = await converted("lowest", layers.slice(0, 2), options);
    expect(await shown(all, 2)).toEqual(await shown(alone, 2));
  },
);

const file = (path: string, data: string): TarItem => ({ path, type: "file", data: Buffer.from(data) });

test("what an upper layer hides is in the lower one", async () => {
  const layers = [[file("hidden", "a"), file("kept", "b")], [file(".wh.hidden", "")]];
  const all = await converted("all", layers);
  expect((await shown(all, 2)).join()).not.toContain("hidden");
  expect((await shown(all, 1)).join()).toContain("hidden");
});

test("layers cannot be told apart when some have no blob", async () => {
  const { store, nydus } = await converted("image", [[file("a", "a")], [file("b", "b")]]);
  const wanted = { ordinary: 3, count: 1 };
  await expect(adoptLowest(store, nydus, wanted, join(root, "place"))).rejects.toMatchObject({
    code: "unsupported",
  });
});

test("an image whose manifest lacks a blob is refused", async () => {
  const { store, nydus } = await converted("image", [[file("a", "a")]]);
  const manifest = { ...nydus.manifest, layers: nydus.manifest.layers.slice(-1) };
  await expect(adoptReferring(store, { ...nydus, manifest }, join(root, "place"))).rejects.toMatchObject({
    code: "corrupt",
  });
});

test("an image for another platform, or with more layers, does not fit", async () => {
  const { ordinary, nydus } = await converted("one", [[file("a", "a")]]);
  assertFits(nydus, ordinary);
  const other = { ...ordinary, config: { ...ordinary.config, architecture: "s390x" } };
  expect(() => assertFits(nydus, other)).toThrow("another platform");
  const { nydus: larger } = await converted("two", [[file("a", "a")], [file("b", "b")]]);
  expect(() => assertFits(larger, ordinary)).toThrow("it has 2 blobs for 1 layers");
});
