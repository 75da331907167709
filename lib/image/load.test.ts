import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { descriptorOf } from "../content/contract.test-support.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor, Platform } from "../oci/descriptor.ts";
import { encodeJson } from "../oci/json.ts";
import { ANNOTATION, MEDIA } from "../oci/media-types.ts";
import { hostPlatform } from "../oci/platform.ts";
import { isNydusImage, loadImage } from "./load.ts";

const ARM: Platform = { os: "linux", architecture: "arm", variant: "v6" };
const LAYER = descriptorOf(new Uint8Array([1]), MEDIA.ociLayer);

async function pushed(store: MemoryStore, document: object, mediaType: string): Promise<Descriptor> {
  const bytes = encodeJson(document);
  const descriptor = descriptorOf(bytes, mediaType);
  await store.push(descriptor, streamOf(bytes));
  return descriptor;
}

interface Shape {
  readonly platform?: Platform;
  readonly layers?: readonly Descriptor[];
  readonly diffIds?: readonly string[];
  /** Makes the manifest another one. */
  readonly note?: string;
}

function image(store: MemoryStore, shape: Shape = {}): Promise<Descriptor> {
  const { platform = hostPlatform(), layers = [LAYER], note = "" } = shape;
  const diffIds = shape.diffIds ?? layers.map(({ digest }) => digest);
  const config = { ...platform, rootfs: { type: "layers", diff_ids: diffIds }, extra: "kept" };
  return pushed(store, config, MEDIA.ociConfig).then((descriptor) =>
    pushed(
      store,
      {
        schemaVersion: 2,
        mediaType: MEDIA.ociManifest,
        config: descriptor,
        layers,
        annotations: { note },
      },
      MEDIA.ociManifest,
    ),
  );
}

function index(store: MemoryStore, manifests: readonly Descriptor[]): Promise<Descriptor> {
  return pushed(store, { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }, MEDIA.ociIndex);
}

test("loadImage() gives manifest, config and layers with their diff ids", async () => {
  const store = new MemoryStore();
  const diffId = digestOf(new Uint8Array([2]));
  const descriptor = await image(store, { diffIds: [diffId] });
  await store.tag(descriptor, "v1");
  const loaded = await loadImage(store, "v1");
  expect(loaded.descriptor.digest).toBe(descriptor.digest);
  expect(loaded.layers).toEqual([{ descriptor: LAYER, diffId }]);
  expect(loaded.config).toMatchObject({ extra: "kept", os: "linux" });
  expect(digestOf(loaded.manifestBytes)).toBe(descriptor.digest);
  expect(digestOf(loaded.configBytes)).toBe(loaded.manifest.config.digest);
});

test("loadImage() takes the image for the platform out of an index, also out of an index in one", async () => {
  const store = new MemoryStore();
  const here = { ...(await image(store)), platform: hostPlatform() };
  const arm = { ...(await image(store, { platform: ARM })), platform: ARM };
  const unknown = { ...arm, platform: { os: "unknown", architecture: "unknown" } };
  const inner = await index(store, [unknown, arm, here]);
  await store.tag(inner, "v1");
  await store.tag(await index(store, [{ ...inner, platform: ARM }]), "nested");
  expect((await loadImage(store, "v1")).descriptor.digest).toBe(here.digest);
  expect((await loadImage(store, "v1", { platform: ARM })).descriptor.digest).toBe(arm.digest);
  expect((await loadImage(store, "nested", { platform: ARM })).descriptor.digest).toBe(arm.digest);
});

test.each([
  ["with an artifact type", { artifactType: "application/vnd.nydus.image.manifest.v1+json" }],
  ["with a feature", { platform: { ...hostPlatform(), "os.features": ["nydus.remoteimage.v1"] } }],
])("loadImage() prefers the Nydus one of two, marked %s, unless told otherwise", async (_how, mark) => {
  const store = new MemoryStore();
  const plain = { ...(await image(store, { note: "plain" })), platform: hostPlatform() };
  const nydus = { ...(await image(store, { note: "nydus" })), platform: hostPlatform(), ...mark };
  await store.tag(await index(store, [plain, nydus]), "v1");
  expect((await loadImage(store, "v1")).descriptor.digest).toBe(nydus.digest);
  expect((await loadImage(store, "v1", { prefer: "plain" })).descriptor.digest).toBe(plain.digest);
});

test("loadImage() fails with not_found when there is none for the platform", async () => {
  const store = new MemoryStore();
  const arm = { ...(await image(store, { platform: ARM })), platform: ARM };
  await store.tag(await index(store, [arm]), "index");
  await store.tag(arm, "single");
  await expect(loadImage(store, "index")).rejects.toMatchObject({ code: "not_found" });
  const platform = hostPlatform();
  await expect(loadImage(store, "single", { platform })).rejects.toMatchObject({ code: "not_found" });
  // Without a wish, the only image there is will do.
  expect((await loadImage(store, "single")).descriptor.digest).toBe(arm.digest);
});

test("loadImage() fails with corrupt when layers and diff ids differ in number", async () => {
  const store = new MemoryStore();
  await store.tag(await image(store, { diffIds: [] }), "v1");
  await expect(loadImage(store, "v1")).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringMatching(/its manifest has 1 layers, its config 0$/),
  });
});

test("loadImage() does not follow indexes for ever", async () => {
  const store = new MemoryStore();
  let root = await image(store);
  for (let depth = 0; depth < 6; depth++) root = await index(store, [{ ...root, platform: hostPlatform() }]);
  await store.tag(root, "v1");
  await expect(loadImage(store, "v1")).rejects.toThrow("indexes are nested too deeply");
});

test("loadImage() does not read a config of absurd size", async () => {
  const store = new MemoryStore();
  const config = { ...LAYER, size: 2 ** 40 };
  const document = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config, layers: [] };
  await store.tag(await pushed(store, document, MEDIA.ociManifest), "v1");
  await expect(loadImage(store, "v1")).rejects.toMatchObject({ code: "corrupt" });
});

test("isNydusImage() looks at the last layer", async () => {
  const bootstrap = { ...LAYER, annotations: { [ANNOTATION.nydusBootstrap]: "true" } };
  for (const [layers, expected] of [
    [[LAYER, bootstrap], true],
    [[bootstrap, LAYER], false],
    [[], false],
  ] as const) {
    const store = new MemoryStore();
    await store.tag(await image(store, { layers }), "v1");
    expect(isNydusImage((await loadImage(store, "v1")).manifest)).toBe(expected);
  }
});
