import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { readBlob } from "../content/read.ts";
import { streamOf } from "../content/verified.ts";
import { encodeJson } from "../oci/json.ts";
import { MEDIA } from "../oci/media-types.ts";
import { type ServedRegistry, serveRegistry } from "./server.ts";
import { RegistryStore } from "./store.ts";
import type { RequestInfo } from "./transport.ts";

let root = "";
let registry: ServedRegistry;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "nydus-store-"));
  registry = await serveRegistry({ root });
});
afterEach(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

const retry = { attempts: 1 };

const LARGE = sampleBytes(9_000_000);
const LARGE_BLOB = descriptorOf(LARGE);
const MANIFEST = encodeJson({
  schemaVersion: 2,
  mediaType: MEDIA.ociManifest,
  config: LARGE_BLOB,
  layers: [],
});
const DESCRIPTOR = descriptorOf(MANIFEST, MEDIA.ociManifest);

async function withManifest(requests: RequestInfo[] = []): Promise<RegistryStore> {
  const store = new RegistryStore(`${registry.host}/a/b`, {
    retry,
    observer: { request: (info) => requests.push(info) },
  });
  await store.push(LARGE_BLOB, streamOf(LARGE));
  await store.push(DESCRIPTOR, streamOf(MANIFEST));
  await store.tag(DESCRIPTOR, "v1");
  return store;
}

test("RegistryStore streams a large blob both ways", async () => {
  const store = await withManifest();
  const back = await readBlob(store, LARGE_BLOB, { limit: 2 ** 24, what: "it" });
  expect(Buffer.compare(back, LARGE)).toBe(0);
});

test("RegistryStore.push() of a large wrong body fails with corrupt and stores nothing", async () => {
  const store = new RegistryStore(`${registry.host}/a/b`, { retry });
  const wrong = new Uint8Array(LARGE);
  wrong[LARGE.byteLength - 1] = (wrong[LARGE.byteLength - 1] ?? 0) ^ 1;
  await expect(store.push(LARGE_BLOB, streamOf(wrong))).rejects.toMatchObject({ code: "corrupt" });
  expect(await store.has(LARGE_BLOB)).toBe(false);
  expect(await readdir(join(root, "uploads"))).toEqual([]);
});

test("RegistryStore.resolve() finds tags and digests, and reads with one request", async () => {
  await withManifest();
  const requests: RequestInfo[] = [];
  const observer = { request: (info: RequestInfo) => requests.push(info) };
  for (const reference of ["v1", DESCRIPTOR.digest, `@${DESCRIPTOR.digest}`]) {
    const store = new RegistryStore(`${registry.host}/a/b`, { observer });
    const found = await store.resolve(reference);
    expect(found).toEqual(DESCRIPTOR);
    expect(await readBlob(store, found, { limit: 10_000, what: "it" })).toEqual(MANIFEST);
    expect(requests.splice(0)).toHaveLength(1);
  }
});

test("RegistryStore.resolve() fails with not_found, naming what was asked for", async () => {
  const store = await withManifest();
  await expect(store.resolve("v2")).rejects.toMatchObject({
    code: "not_found",
    message: `Cannot read "${registry.host}/a/b:v2": the registry answered 404 (MANIFEST_UNKNOWN)`,
  });
  await expect(store.resolve("not a tag")).rejects.toMatchObject({ code: "usage" });
});

test("RegistryStore.has() looks for manifests among manifests", async () => {
  const store = await withManifest();
  expect(await store.has(DESCRIPTOR)).toBe(true);
  expect(await store.has(descriptorOf(Buffer.from("{}"), MEDIA.ociManifest))).toBe(false);
});

test("RegistryStore.tag() names a manifest that another client pushed", async () => {
  await withManifest();
  const store = new RegistryStore(`${registry.host}/a/b`);
  await store.tag(DESCRIPTOR, "v2");
  expect(await store.resolve("v2")).toEqual(DESCRIPTOR);
});

test("RegistryStore reports requests and bytes", async () => {
  await withManifest();
  const requests: RequestInfo[] = [];
  let bytes = 0;
  const store = new RegistryStore(`${registry.host}/a/b`, {
    observer: { request: (info) => requests.push(info), bytes: (count) => (bytes += count) },
  });
  await Array.fromAsync(await store.fetch(LARGE_BLOB, { range: { start: 5, end: 1005 } }));
  expect(bytes).toBe(1000);
  expect(requests).toEqual([
    {
      method: "GET",
      host: registry.host,
      path: `/v2/a/b/blobs/${LARGE_BLOB.digest}`,
      range: "bytes=5-1004",
    },
  ]);
});

test("RegistryStore.fetch() asks nothing for an empty range", async () => {
  const requests: RequestInfo[] = [];
  const store = await withManifest(requests);
  requests.splice(0);
  await Array.fromAsync(await store.fetch(LARGE_BLOB, { range: { start: 5, end: 5 } }));
  expect(requests).toEqual([]);
});
