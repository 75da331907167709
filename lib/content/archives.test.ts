import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { digestOf } from "../base/digest.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeJson } from "../oci/json.ts";
import { parseDocument } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import { type TarItem, writeTar } from "../tar/writer.ts";
import { descriptorOf, sampleBytes, testBlobStore, testFetcher } from "./contract.test-support.ts";
import { DockerArchive } from "./docker-archive.ts";
import { OciArchive, OciArchiveWriter } from "./oci-archive.ts";
import { readBlob } from "./read.ts";
import { streamOf } from "./verified.ts";

let root = "";
let path = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "nydus-archive-"));
  path = join(root, "image.tar");
});
afterEach(() => rm(root, { recursive: true, force: true }));

function file(name: string, body: Uint8Array): TarItem {
  return { kind: "file", path: byteStringOf(name), mode: 0o644, body };
}

async function writeArchive(items: readonly TarItem[]): Promise<void> {
  await writeFile(path, Buffer.concat(await Array.fromAsync(writeTar(items))));
}

function blobFile(descriptor: Descriptor, bytes: Uint8Array): TarItem {
  return file(`blobs/sha256/${descriptor.digest.slice(7)}`, bytes);
}

const MANIFEST = encodeJson({
  schemaVersion: 2,
  mediaType: MEDIA.ociManifest,
  config: descriptorOf(new Uint8Array(), MEDIA.ociConfig),
  layers: [],
});
const MANIFEST_DESCRIPTOR = descriptorOf(MANIFEST, MEDIA.ociManifest);

function index(...tags: string[]): TarItem {
  const manifests = tags.map((tag) => ({
    ...MANIFEST_DESCRIPTOR,
    annotations: { "org.opencontainers.image.ref.name": tag },
  }));
  return file("index.json", encodeJson({ schemaVersion: 2, manifests }));
}

testFetcher("OciArchive", async () => {
  await writeArchive([index("t")]);
  let store = await OciArchive.open(path);
  return {
    get store() {
      return store;
    },
    async seed(descriptor, bytes) {
      await store[Symbol.asyncDispose]();
      await writeArchive([index("t"), blobFile(descriptor, bytes)]);
      store = await OciArchive.open(path);
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
});

testBlobStore("OciArchiveWriter", async () => {
  const store = await OciArchiveWriter.create(path);
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      expect(await readdir(root)).toEqual([]);
    },
  };
});

async function written(): Promise<Uint8Array> {
  {
    await using store = await OciArchiveWriter.create(path);
    await store.push(MANIFEST_DESCRIPTOR, streamOf(MANIFEST));
    await store.tag(MANIFEST_DESCRIPTOR, "one");
  }
  return readFile(path);
}

test("OciArchiveWriter leaves an archive that OciArchive reads", async () => {
  await written();
  expect(await readdir(root)).toEqual(["image.tar"]);
  await using archive = await OciArchive.open(path);
  const found = await archive.resolve("one");
  expect(found).toMatchObject(MANIFEST_DESCRIPTOR);
  expect(await readBlob(archive, found, { limit: 10_000, what: "it" })).toEqual(MANIFEST);
});

test("OciArchiveWriter gives the same bytes each time", async () => {
  const first = await written();
  await rm(path);
  expect(digestOf(await written())).toBe(digestOf(first));
});

test("OciArchiveWriter leaves no archive when nothing was tagged", async () => {
  {
    await using store = await OciArchiveWriter.create(path);
    await store.push(MANIFEST_DESCRIPTOR, streamOf(MANIFEST));
  }
  expect(await readdir(root)).toEqual([]);
});

test("OciArchiveWriter keeps the old archive when nothing was tagged", async () => {
  await writeFile(path, "old");
  await (await OciArchiveWriter.create(path))[Symbol.asyncDispose]();
  expect(await readFile(path, "utf8")).toBe("old");
});

test("OciArchiveWriter fails with not_found where there is no directory", async () => {
  const made = OciArchiveWriter.create(join(root, "none", "image.tar"));
  await expect(made).rejects.toMatchObject({ code: "not_found" });
});

test("OciArchive refuses to be written", async () => {
  await writeArchive([index("t")]);
  await using archive = await OciArchive.open(path);
  await expect(archive.push(MANIFEST_DESCRIPTOR, streamOf(MANIFEST))).rejects.toMatchObject({
    code: "unsupported",
  });
  await expect(archive.tag(MANIFEST_DESCRIPTOR, "x")).rejects.toMatchObject({ code: "unsupported" });
});

test("OciArchive.open() fails with not_found for an absent file", async () => {
  await expect(OciArchive.open(path)).rejects.toMatchObject({ code: "not_found" });
});

test.each([
  ["is cut short", async () => truncate(path, 3000), "the archive ends inside an entry"],
  ["is compressed", async () => writeFile(path, Bun.gzipSync(await readFile(path))), "it is compressed"],
  ["is something else", async () => writeFile(path, "x".repeat(2000)), "this is not a tar header"],
])("OciArchive.open() fails with corrupt when the file %s", async (_what, damage, state) => {
  await writeArchive([index("t"), file("blobs/sha256/x", sampleBytes(5000))]);
  await damage();
  await expect(OciArchive.open(path)).rejects.toThrow(state);
  await expect(OciArchive.open(path)).rejects.toMatchObject({ code: "corrupt" });
});

const LAYERS = [sampleBytes(3000, 1), sampleBytes(4000, 2)] as const;
const CONFIG = encodeJson({
  architecture: "amd64",
  os: "linux",
  rootfs: { type: "layers", diff_ids: LAYERS.map((layer) => digestOf(layer)) },
});

/** As `docker save` wrote it for years: a directory a layer, and links where a layer occurs twice. */
function savedImage(compress = false): readonly TarItem[] {
  const [lower, upper] = LAYERS;
  const packed = (layer: Uint8Array): Uint8Array => (compress ? Bun.gzipSync(Buffer.from(layer)) : layer);
  const saved = [{ Config: "c.json", RepoTags: ["app:1"], Layers: ["a/layer.tar", "b/layer.tar"] }];
  return [
    file("a/layer.tar", packed(lower)),
    { kind: "symlink", path: byteStringOf("b/layer.tar"), linkTarget: byteStringOf("../c/layer.tar") },
    file("c/layer.tar", packed(upper)),
    file("c.json", CONFIG),
    file("manifest.json", new TextEncoder().encode(JSON.stringify(saved))),
  ];
}

test.each([false, true])("DockerArchive reads an image with layers compressed: %s", async (compress) => {
  await writeArchive(savedImage(compress));
  await using archive = await DockerArchive.open(path);
  const descriptor = await archive.resolve();
  const bytes = await readBlob(archive, descriptor, { limit: 10_000, what: "it" });
  const document = parseDocument(bytes, descriptor.mediaType, "it");
  if (document.kind === "index") throw new Error("not a manifest");
  const { layers, config } = document.manifest;
  expect(layers.map(({ mediaType }) => mediaType)).toEqual(
    Array(2).fill(compress ? MEDIA.ociLayerGzip : MEDIA.ociLayer),
  );
  expect(await readBlob(archive, config, { limit: 10_000, what: "it" })).toEqual(CONFIG);
  for (const [i, layer] of layers.entries()) {
    const stored = await readBlob(archive, layer, { limit: 10_000, what: "it" });
    const plain = compress ? Bun.gunzipSync(Buffer.from(stored)) : stored;
    expect(digestOf(plain)).toBe(digestOf(LAYERS[i] ?? CONFIG));
  }
});

test.each([false, true])(
  "DockerArchive.fetch() needs no resolve before it (compressed: %s)",
  async (compress) => {
    await writeArchive(savedImage(compress));
    const [layer] = LAYERS.map((bytes) => descriptorOf(compress ? Bun.gzipSync(Buffer.from(bytes)) : bytes));
    await using archive = await DockerArchive.open(path);
    if (layer === undefined) throw new Error("there is no layer");
    expect((await readBlob(archive, layer, { limit: 10_000, what: "it" })).byteLength).toBe(layer.size);
    const nowhere = descriptorOf(Buffer.from("nowhere"));
    await expect(archive.fetch(nowhere)).rejects.toMatchObject({ code: "not_found" });
  },
);

test("DockerArchive.resolve() understands short and full names and places", async () => {
  await writeArchive(savedImage());
  await using archive = await DockerArchive.open(path);
  const { digest } = await archive.resolve();
  for (const reference of ["app:1", "docker.io/library/app:1", "@0", digest])
    expect(await archive.resolve(reference)).toMatchObject({ digest });
  for (const reference of ["app:2", "other", "@1"])
    await expect(archive.resolve(reference)).rejects.toMatchObject({ code: "not_found" });
});

test("DockerArchive fails with corrupt when a layer is not what the config says", async () => {
  const items = savedImage().map((item) =>
    item.path === byteStringOf("a/layer.tar") ? file("a/layer.tar", sampleBytes(3000, 9)) : item,
  );
  await writeArchive(items);
  await using archive = await DockerArchive.open(path);
  await archive.resolve();
  const layer = descriptorOf(LAYERS[0]);
  await expect(readBlob(archive, layer, { limit: 10_000, what: "it" })).rejects.toMatchObject({
    code: "corrupt",
  });
});

test.each([
  ["has no manifest.json", savedImage().slice(0, 4)],
  ["lacks a layer", savedImage().slice(1)],
  [
    "has a layer that links to itself",
    [
      ...savedImage().slice(2),
      { kind: "symlink", path: byteStringOf("a/layer.tar"), linkTarget: byteStringOf("layer.tar") } as const,
    ],
  ],
  [
    "names a file outside",
    [
      ...savedImage().slice(0, 4),
      file("manifest.json", Buffer.from(`[{"Config":"../../etc/passwd","Layers":[]}]`)),
    ],
  ],
  ["is empty", [file("manifest.json", Buffer.from("[]"))]],
])("DockerArchive fails with corrupt when it %s", async (_what, items) => {
  await writeArchive(items);
  const resolved = DockerArchive.open(path).then((archive) => archive.resolve());
  await expect(resolved).rejects.toMatchObject({ code: "corrupt" });
});

test("an archive in a directory that is no file fails", async () => {
  await mkdir(path);
  await expect(OciArchive.open(path)).rejects.toMatchObject({ name: "NydusError" });
});
