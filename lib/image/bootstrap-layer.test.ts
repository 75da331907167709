import { expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { streamOf, verified } from "../content/verified.ts";
import type { Manifest } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import { type TarItem, writeTar } from "../tar/writer.ts";
import { readBootstrapLayer } from "./bootstrap-layer.ts";

const BOOTSTRAP = sampleBytes(100_000);

function file(path: string, body: Uint8Array): TarItem {
  return { kind: "file", path: byteStringOf(path), mode: 0o444, size: body.byteLength, body };
}

async function tar(...items: TarItem[]): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(Buffer.concat(await Array.fromAsync(writeTar(items))));
}

/** A store with an image whose last layer has these bytes. */
async function withLayer(bytes: Uint8Array): Promise<[MemoryStore, { manifest: Manifest }]> {
  const store = new MemoryStore();
  const layer = descriptorOf(bytes, MEDIA.ociLayerGzip);
  await store.push(layer, streamOf(bytes));
  const other = descriptorOf(new Uint8Array());
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: other,
    layers: [other, layer],
  };
  return [store, { manifest }];
}

test.each([
  ["gzip", Bun.gzipSync],
  ["zstd", Bun.zstdCompressSync],
  ["nothing", (bytes: Uint8Array<ArrayBuffer>) => bytes],
])("readBootstrapLayer() finds the bootstrap in a layer compressed by %s", async (_how, compress) => {
  const bytes = await tar(
    { kind: "directory", path: byteStringOf("image/"), mode: 0o755 },
    file("image/blob.meta", sampleBytes(3000, 2)),
    file("image/image.boot", BOOTSTRAP),
    file("image/after", sampleBytes(3000, 3)),
  );
  const [store, image] = await withLayer(compress(bytes));
  expect(Buffer.compare(await readBootstrapLayer(store, image), BOOTSTRAP)).toBe(0);
});

test.each(["./image/image.boot", "/image/image.boot", "image.boot"])(
  "readBootstrapLayer() knows the bootstrap as %s",
  async (path) => {
    const [store, image] = await withLayer(await tar(file(path, BOOTSTRAP)));
    expect(Buffer.compare(await readBootstrapLayer(store, image), BOOTSTRAP)).toBe(0);
  },
);

test("readBootstrapLayer() fails with corrupt when there is none", async () => {
  const link: TarItem = {
    kind: "symlink",
    path: byteStringOf("image/image.boot"),
    linkTarget: byteStringOf("/etc/passwd"),
  };
  for (const bytes of [await tar(link), await tar(file("image/other", BOOTSTRAP)), new Uint8Array(0)]) {
    const [store, image] = await withLayer(bytes);
    await expect(readBootstrapLayer(store, image)).rejects.toMatchObject({
      code: "corrupt",
      message: expect.stringContaining("has no image/image.boot"),
    });
  }
});

test("readBootstrapLayer() fails with corrupt for a layer cut short or damaged", async () => {
  const whole = Bun.gzipSync(await tar(file("image/image.boot", BOOTSTRAP)));
  const damaged = new Uint8Array(whole);
  damaged[50_000] = (damaged[50_000] ?? 0) ^ 0xff;
  for (const bytes of [whole.subarray(0, 50_000), damaged, sampleBytes(4096, 9)]) {
    const [store, image] = await withLayer(bytes);
    await expect(readBootstrapLayer(store, image)).rejects.toMatchObject({ code: "corrupt" });
  }
});

test("readBootstrapLayer() verifies the layer although the bootstrap came first", async () => {
  const bytes = await tar(file("image/image.boot", BOOTSTRAP), file("image/after", sampleBytes(2 ** 20, 2)));
  const [store, image] = await withLayer(bytes);
  const wrong = new Uint8Array(bytes);
  wrong[bytes.byteLength - 100_000] = (wrong[bytes.byteLength - 100_000] ?? 0) ^ 1;
  const lying = {
    fetch: async (...[descriptor, options]: Parameters<MemoryStore["fetch"]>) => {
      const other = descriptorOf(wrong);
      await store.push(other, streamOf(wrong));
      return verified(await store.fetch(other, options), descriptor, "it");
    },
  };
  await expect(readBootstrapLayer(lying, image)).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringContaining("its bytes have digest"),
  });
});

test("readBootstrapLayer() stops a layer that expands without end", async () => {
  const bytes = await tar(file("image/zeros", new Uint8Array(2 ** 22)), file("image/image.boot", BOOTSTRAP));
  const [store, image] = await withLayer(Bun.gzipSync(bytes));
  await expect(readBootstrapLayer(store, image, { limit: 2 ** 20 })).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringContaining(`it expands to more than ${2 ** 20} bytes`),
  });
});
