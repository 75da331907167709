import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { type FaultRegistry, startFaultRegistry } from "../../tests/support/fault-registry.ts";
import type { Progress } from "../base/progress.ts";
import type { ImageStore } from "../content/content.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { readBlob } from "../content/read.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeJson } from "../oci/json.ts";
import { MEDIA } from "../oci/media-types.ts";
import { RegistryStore } from "../registry/store.ts";
import { copyImage } from "./copy.ts";

async function pushed(store: ImageStore, bytes: Uint8Array, mediaType: string): Promise<Descriptor> {
  const descriptor = descriptorOf(bytes, mediaType);
  await store.push(descriptor, streamOf(bytes));
  return descriptor;
}

interface Made {
  readonly root: Descriptor;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** An image of three layers, the last one twice. */
async function image(store: ImageStore, seed = 1): Promise<Made> {
  const layers: Descriptor[] = [];
  for (const i of [0, 1, 2])
    layers.push(await pushed(store, sampleBytes(200_000 + i, 10 * seed + i), MEDIA.ociLayer));
  const config = await pushed(store, encodeJson({ seed }), MEDIA.ociConfig);
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config,
    layers: [...layers, ...layers.slice(2)],
  };
  const root = await pushed(store, encodeJson(manifest), MEDIA.ociManifest);
  return { root, config, layers };
}

async function registry(): Promise<FaultRegistry> {
  const root = await mkdtemp(join(tmpdir(), "nydus-copy-"));
  const started = await startFaultRegistry({ root });
  onTestFinished(async () => {
    await started[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });
  return started;
}

function repository({ host }: FaultRegistry, name: string): RegistryStore {
  return new RegistryStore(`${host}/${name}`, {
    credentials: async () => undefined,
    retry: { attempts: 1 },
  });
}

test("copyImage() copies each blob once, then the manifest, then the tag", async () => {
  const [from, to] = [new MemoryStore("a"), new MemoryStore("b")];
  const { root, config, layers } = await image(from);
  const report = await copyImage(from, root, to, "v1");
  const bytes = [config, ...layers].reduce((sum, { size }) => sum + size, 0);
  expect(report).toEqual({ descriptor: root, blobs: 4, bytes, skipped: 0 });
  expect(await to.resolve("v1")).toMatchObject({ digest: root.digest });
  for (const blob of [root, config, ...layers]) {
    const limits = { limit: 2 ** 20, what: "it" };
    expect(await readBlob(to, blob, limits)).toEqual(await readBlob(from, blob, limits));
  }
});

test("copyImage() does not send what is there", async () => {
  const [from, to] = [new MemoryStore("a"), new MemoryStore("b")];
  const { root, layers } = await image(from);
  const first = layers.slice(0, 1);
  for (const layer of first) await to.push(layer, await from.fetch(layer));
  expect(await copyImage(from, root, to, "v1")).toMatchObject({ blobs: 3, skipped: 1 });
  expect(await copyImage(from, root, to, "v2")).toMatchObject({ blobs: 0, bytes: 0, skipped: 4 });
  expect((await to.resolve("v2")).digest).toBe(root.digest);
});

test("copyImage() copies an index with all its images", async () => {
  const [from, to] = [new MemoryStore("a"), new MemoryStore("b")];
  const images = [await image(from, 1), await image(from, 2)];
  const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: images.map(({ root }) => root) };
  const root = await pushed(from, encodeJson(index), MEDIA.ociIndex);
  expect(await copyImage(from, root, to, "v1")).toMatchObject({ descriptor: root, blobs: 8 });
  for (const made of images) expect(await to.has(made.root)).toBe(true);
});

test("copyImage() lets a registry take blobs from its own repositories", async () => {
  const served = await registry();
  const [from, to] = [repository(served, "a"), repository(served, "b")];
  const { root } = await image(from);
  served.clear();
  // One directory keeps the blobs of all repositories, so `has` must be kept from finding them.
  to.has = async () => false;
  expect(await copyImage(from, root, to, "v1")).toMatchObject({ blobs: 0, skipped: 4 });
  expect(served.reads).toEqual([]);
});

test("copyImage() goes on after a transfer that broke off", async () => {
  const served = await registry();
  const [from, to] = [repository(served, "a"), new MemoryStore("b")];
  const { root, layers } = await image(from);
  const broken = layers[1]?.digest;
  served.fault = ({ digest, attempt }) =>
    digest === broken && attempt < 3 ? { kind: "reset", after: 1000 } : undefined;
  let sent = 0;
  const progress: Progress = {
    task: () => ({ advance: (units) => (sent += units), total() {}, finish() {} }),
  };
  const { bytes } = await copyImage(from, root, to, "v1", { progress });
  expect(sent).toBe(bytes);
});

test("copyImage() does not begin a transfer again that was given up for silence", async () => {
  const served = await registry();
  const limits = { readTimeout: 0.2, retry: { attempts: 1 } };
  const from = new RegistryStore(`${served.host}/a`, { credentials: async () => undefined, ...limits });
  const { root, layers } = await image(from);
  served.fault = ({ digest }) => (digest === layers[0]?.digest ? { kind: "hang", after: 1000 } : undefined);
  const fetch = vi.spyOn(from, "fetch");
  const copied = copyImage(from, root, new MemoryStore("b"), "v1");
  await expect(copied).rejects.toMatchObject({ code: "unavailable", outOfTime: true });
  const fetched = fetch.mock.calls.filter(([{ digest }]) => digest === layers[0]?.digest);
  expect(fetched).toHaveLength(1);
});

test("copyImage() fails with the first error and names nothing", async () => {
  const served = await registry();
  const [from, to] = [repository(served, "a"), new MemoryStore("b")];
  const { root, layers } = await image(from);
  served.fault = ({ digest }) => {
    if (digest === layers[2]?.digest) return { kind: "flip", at: 70_000 };
    return digest === layers[0]?.digest ? { kind: "hang", after: 1000 } : undefined;
  };
  const failed = copyImage(from, root, to, "v1");
  await expect(failed).rejects.toMatchObject({ code: "corrupt" });
  await expect(failed).rejects.toThrow(layers[2]?.digest);
  await expect(to.resolve("v1")).rejects.toMatchObject({ code: "not_found" });
  expect(await to.has(root)).toBe(false);
});

test("copyImage() stops when it is told to", async () => {
  const served = await registry();
  const [from, to] = [repository(served, "a"), new MemoryStore("b")];
  const { root } = await image(from);
  const controller = new AbortController();
  served.fault = () => {
    controller.abort();
    return { kind: "hang" };
  };
  const stopped = copyImage(from, root, to, "v1", { signal: controller.signal });
  await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
  expect(await to.has(root)).toBe(false);
});
