import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootstrapLayerFiles, goldenTerms, readConverted } from "../../tests/support/converted-image.ts";
import { golden, hasGolden } from "../../tests/support/golden.ts";
import { makeImage } from "../../tests/support/make-image.ts";
import { blobPath, type LayoutOptions, writeLayout } from "../../tests/support/oci-layout.ts";
import { type TarItem, tarOf } from "../../tests/support/tar-builder.ts";
import { NydusError } from "../base/error.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { OciLayout } from "../content/oci-layout.ts";
import { loadImage } from "../image/load.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type ConvertOptions, convertImage } from "./image.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "convert-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const FORMAT = { compressor: "zstd", digester: "sha256", chunkSize: 2 ** 20 } as const;

async function convert(layout: string, options: Partial<ConvertOptions> = {}, store = new MemoryStore()) {
  const source = await OciLayout.open(layout);
  const image = await loadImage(source, undefined);
  const work = join(directory, "work");
  const report = await convertImage(
    { store: source, image },
    { store, reference: "t" },
    { ...FORMAT, workDirectory: work, ...options },
  );
  expect(await readdir(work)).toEqual([]);
  return { store, report };
}

async function layoutOf(layers: readonly (readonly TarItem[])[], options: LayoutOptions = {}) {
  const tars = layers.map((items) => tarOf(items));
  return (await writeLayout(join(directory, "source"), tars, options)).directory;
}

const file = (path: string, text: string | Uint8Array): TarItem => ({
  path,
  type: "file",
  data: typeof text === "string" ? Buffer.from(text) : text,
});

describe.skipIf(!hasGolden)("golden images", () => {
  test.each(["plain", "hard"])("convertImage() keeps every entry of golden %s", async (name) => {
    const { store } = await convert(golden(name, "oci"));
    const { entries } = await readConverted(store, "t");
    const { wanted, found } = goldenTerms(await readFile(golden(name, "tree.jsonl"), "utf8"), entries);
    expect(found).toEqual(wanted);
  });

  test("convertImage() writes golden plain as the reference does, but for compressed bytes and order", async () => {
    const { store } = await convert(golden("plain", "oci"), { compressor: "none", digester: "blake3" });
    const ours = await readConverted(store, "t");
    const theirs = await readConverted(await OciLayout.open(golden("images", "v6-none")));
    const facts = ({ bootstrap }: typeof ours) =>
      bootstrap.blobs.map(({ id: _, ciOffset, compressedSize, ...rest }) => rest);
    expect(facts(ours)).toEqual(facts(theirs));
    expect(
      ours.image.manifest.layers.map(({ mediaType, annotations }) => ({ mediaType, annotations })),
    ).toEqual(theirs.image.manifest.layers.map(({ mediaType, annotations }) => ({ mediaType, annotations })));
    expect(ours.image.config.history).toEqual(theirs.image.config.history);
  });
});

test.each([
  [1, ["gzip"]],
  [2, ["zstd-frames", "none", "gzip-members"]],
  [3, ["none", "zstd"]],
] as const)("convertImage() keeps every entry of made image %i in %s layers", async (seed, compression) => {
  const { layers, tree } = makeImage(seed);
  const { store } = await convert(await layoutOf(layers, { compression }));
  const { entries } = await readConverted(store, "t");
  const times = new Map(entries.map(({ path, mtime }) => [path, mtime]));
  expect(entries).toEqual(tree.map((entry) => ({ ...entry, mtime: entry.mtime ?? times.get(entry.path) })));
});

test.each([
  ["zstd", "blake3", 2 ** 20],
  ["lz4_block", "sha256", 2 ** 16],
  ["none", "blake3", 4096],
  ["zstd", "sha256", 2 ** 24],
] as const)(
  "convertImage() makes %s blobs with %s digests of %i-byte chunks",
  async (compressor, digester, chunkSize) => {
    const { layers, tree } = makeImage(4);
    const { store, report } = await convert(await layoutOf(layers), { compressor, digester, chunkSize });
    const { entries, bootstrap, image } = await readConverted(store, "t");
    expect(entries.map(({ path, sha256 }) => [path, sha256])).toEqual(
      tree.map(({ path, sha256 }) => [path, sha256]),
    );
    expect(bootstrap.superblock).toMatchObject({ compressor, digester, chunkSize });
    const files = await bootstrapLayerFiles(store, image);
    expect(files.map(([name]) => name)).toEqual([
      "image",
      "image/image.boot",
      ...report.layers.filter(({ chunks }) => chunks > 0).map((l) => `image/${l.digest.slice(7)}.blob.meta`),
    ]);
  },
);

test("convertImage() gives the same bytes however many threads, and sends nothing twice", async () => {
  const layout = await layoutOf(makeImage(5).layers);
  const { store, report: first } = await convert(layout, { concurrency: 1 });
  expect(first.pushedSize).toBe(first.targetSize);
  const { report: second } = await convert(layout, { concurrency: 3 }, store);
  expect(second.targetDigest).toBe(first.targetDigest);
  expect(second.pushedSize).toBe(0);
  expect(second.layers.map((layer) => layer.pushed)).toEqual([false, false, false]);
});

test("convertImage() keeps layers without data in the manifest and out of the bootstrap", async () => {
  const layers = [
    [file("a", "data")],
    [{ path: "only/", type: "dir" }, file("empty", "")],
    [],
    [file(".wh.a", ""), file("b", "other")],
  ] as TarItem[][];
  const { store, report } = await convert(await layoutOf(layers));
  const { image, bootstrap, entries } = await readConverted(store, "t");
  expect(entries.map(({ path }) => path)).toEqual(["/", "/b", "/empty", "/only"]);
  expect(image.manifest.layers.length).toBe(5);
  expect(bootstrap.blobs.map(({ id }) => `sha256:${id}`)).toEqual([report.layers[3]?.digest]);
  expect(image.config.rootfs.diff_ids.slice(0, -1)).toEqual(report.layers.map(({ digest }) => digest));
  expect(report.layers.map(({ chunks, entries: count }) => [chunks, count])).toEqual([
    [1, 1],
    [0, 2],
    [0, 0],
    [1, 2],
  ]);
});

test("convertImage() converts an image without layers", async () => {
  const { store } = await convert(await layoutOf([]));
  const { image, entries } = await readConverted(store, "t");
  expect(entries.map(({ path }) => path)).toEqual(["/"]);
  expect(image.manifest.layers.length).toBe(1);
});

test("convertImage() lists a blob once that several layers make", async () => {
  const same = [file("a", "data")];
  const layout = await layoutOf([same, same, same], { compression: ["gzip", "gzip", "zstd"] });
  const { store, report } = await convert(layout);
  const { image, bootstrap } = await readConverted(store, "t");
  expect(bootstrap.blobs.length).toBe(1);
  expect(new Set(report.layers.map(({ digest }) => digest)).size).toBe(1);
  expect(image.manifest.layers.length).toBe(4);
});

test("convertImage() records the source and keeps the manifest's annotations", async () => {
  const layout = await layoutOf([[file("a", "x")]]);
  const source = await OciLayout.open(layout);
  const image = await loadImage(source, undefined);
  const annotated = { ...image, manifest: { ...image.manifest, annotations: { "org.example": "kept" } } };
  const store = new MemoryStore();
  const from = { store: source, image: annotated, reference: "host/name:tag" };
  await convertImage(from, { store, reference: "t" }, FORMAT);
  const { image: made } = await readConverted(store, "t");
  expect(made.manifest.annotations).toEqual({
    "org.example": "kept",
    "containerd.io/snapshot/nydus-fs-version": "6",
    "containerd.io/snapshot/nydus-source-digest": image.descriptor.digest,
    "containerd.io/snapshot/nydus-source-reference": "host/name:tag",
  });
});

test("convertImage() writes Docker's media types when asked", async () => {
  const { store } = await convert(await layoutOf([[file("a", "x")]]), { family: "docker" });
  const { image } = await readConverted(store, "t");
  expect(image.manifest.mediaType).toBe("application/vnd.docker.distribution.manifest.v2+json");
  expect(image.manifest.config.mediaType).toBe("application/vnd.docker.container.image.v1+json");
  expect(image.manifest.layers.map(({ mediaType }) => mediaType)).toEqual([
    "application/vnd.oci.image.layer.nydus.blob.v1",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
  ]);
});

/** A layout whose only layer is not what its digest says. */
async function damagedLayout(damage: (bytes: Buffer) => Uint8Array): Promise<string> {
  const items = [file("a", Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i) % 251)))];
  const { directory: layout, layers } = await writeLayout(join(directory, "source"), [tarOf(items)]);
  const path = blobPath(layout, layers[0]?.digest ?? "");
  await writeFile(path, damage(await readFile(path)));
  return layout;
}

async function refusal(layout: string): Promise<{ code: string; message: string }> {
  const store = new MemoryStore();
  const error = await convert(layout, {}, store).then(
    () => ({ code: "none", message: "it was converted" }),
    (thrown) => thrown,
  );
  // Nothing was named, and the work directory is empty.
  await expect(store.resolve("t")).rejects.toMatchObject({ code: "not_found" });
  expect(await readdir(join(directory, "work"))).toEqual([]);
  expect(error.message).not.toContain("\n");
  return { code: error.code, message: error.message };
}

test.each([
  ["cut short", (bytes: Buffer) => bytes.subarray(0, -100)],
  ["with a flipped bit", (bytes: Buffer) => bytes.fill((bytes[2000] ?? 0) ^ 4, 2000, 2001)],
  ["too long", (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(9)])],
])("convertImage() refuses a layer %s", async (_, damage) => {
  const { code, message } = await refusal(await damagedLayout(damage));
  expect(code).toBe("corrupt");
  expect(message).toMatch(/^Cannot (read|decompress) .*sha256:/);
});

test.each<[string, TarItem[], RegExp]>([
  [
    "that leads out of the image",
    [file("../../etc/passwd", "x")],
    /"\.\.\/\.\.\/etc\/passwd".*out of the image/,
  ],
  ["with a name of 256 bytes", [file("n".repeat(256), "x")], /256 bytes/],
  ["that claims 8 EiB", [{ ...file("huge", "x"), claimedSize: 2 ** 63, dialect: "gnu" }], /"huge"/],
  [
    "that claims 1 PiB",
    [{ ...file("huge", "x"), claimedSize: 2 ** 50, dialect: "gnu" }],
    /"huge".*ends inside/,
  ],
  ["linked to nothing", [{ path: "l", type: "hardlink", target: "gone" }], /"l".*"gone"/],
])("convertImage() refuses an entry %s", async (_, items, expected) => {
  const { code, message } = await refusal(await layoutOf([items]));
  expect(code).toBe("corrupt");
  expect(message).toMatch(expected);
  expect(message).toMatch(/^Cannot /);
});

test("convertImage() refuses a layer that is no tar, and one compressed by something else", async () => {
  const write = async (bytes: Uint8Array): Promise<string> =>
    (await writeLayout(join(directory, "source"), [bytes], { compression: ["none"] })).directory;
  const noise = Buffer.from(Array.from({ length: 2048 }, (_, i) => (i * 89) & 0xff));
  expect(await refusal(await write(noise))).toMatchObject({ code: "corrupt" });
  const xz = Buffer.concat([Buffer.from("fd377a585a00", "hex"), noise]);
  const { code, message } = await refusal(await write(xz));
  expect(code).toBe("unsupported");
  expect(message).toContain("compressed by xz");
});

test("convertImage() refuses a tar that is not the one its config names", async () => {
  const layout = await layoutOf([[file("a", "x")], [file("b", "y")]]);
  const source = await OciLayout.open(layout);
  const image = await loadImage(source, undefined);
  const [first, second] = image.layers;
  if (first === undefined || second === undefined) throw new Error("two layers");
  const swapped = { ...image, layers: [{ ...first, diffId: second.diffId }, second] };
  const store = new MemoryStore();
  await expect(
    convertImage({ store: source, image: swapped }, { store, reference: "t" }, FORMAT),
  ).rejects.toThrow(`its tar has digest ${first.diffId}, and the config says ${second.diffId}`);
});

test("convertImage() stops when it is interrupted, and cleans up", async () => {
  const layout = await layoutOf([[file("a", "x")]]);
  const source = await OciLayout.open(layout);
  const image = await loadImage(source, undefined);
  const stop = new AbortController();
  const hanging = {
    fetch: async () => {
      queueMicrotask(() => stop.abort(new Error("enough")));
      return new ReadableStream<Uint8Array>();
    },
  };
  const work = join(directory, "work");
  const store = new MemoryStore();
  const options = { ...FORMAT, workDirectory: work, signal: stop.signal };
  await expect(convertImage({ store: hanging, image }, { store, reference: "t" }, options)).rejects.toThrow(
    "enough",
  );
  expect(await readdir(work)).toEqual([]);
});

test("convertImage() stops at once when a blob cannot be sent", async () => {
  const layout = await layoutOf([[file("a", "x")], [file("b", "y")]]);
  const source = await OciLayout.open(layout);
  const image = await loadImage(source, undefined);
  const [first, second] = image.layers;
  // The second layer never comes: only the first one's failure can end the conversion.
  const slow = {
    fetch: (descriptor: Descriptor) =>
      descriptor.digest === second?.descriptor.digest
        ? Promise.resolve(new ReadableStream<Uint8Array>())
        : source.fetch(first?.descriptor ?? descriptor),
  };
  const store = new MemoryStore();
  store.push = () => Promise.reject(new NydusError("denied", "Cannot push: no"));
  const options = { ...FORMAT, concurrency: 2, workDirectory: join(directory, "work") };
  await expect(
    convertImage({ store: slow, image }, { store, reference: "t" }, options),
  ).rejects.toMatchObject({
    code: "denied",
  });
  expect(await readdir(join(directory, "work"))).toEqual([]);
});

test("convertImage() sends a blob again that broke off on its way", async () => {
  const layout = await layoutOf([[file("a", "x".repeat(5000))]]);
  const store = new MemoryStore();
  const push = store.push.bind(store);
  let failures = 2;
  store.push = async (descriptor, body, options) => {
    if (failures-- > 0) throw new NydusError("unavailable", "Cannot push: the connection broke");
    await push(descriptor, body, options);
  };
  const { report } = await convert(layout, {}, store);
  expect(report.layers[0]?.pushed).toBe(true);
  expect((await readConverted(store, "t")).entries.length).toBe(2);
});
