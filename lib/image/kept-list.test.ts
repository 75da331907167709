import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Trace } from "../blob/trace.ts";
import { descriptorOf } from "../content/contract.test-support.ts";
import { streamOf } from "../content/verified.ts";
import { encodeJson } from "../oci/json.ts";
import { MEDIA } from "../oci/media-types.ts";
import { type ServedRegistry, serveRegistry } from "../registry/server.ts";
import { RegistryStore } from "../registry/store.ts";
import { fetchList, LIST_TYPE, pushList } from "./kept-list.ts";

const EMPTY = Buffer.from("{}");
const CONFIG = descriptorOf(EMPTY, MEDIA.ociEmpty);
const DOCUMENT = encodeJson({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: CONFIG, layers: [] });
const IMAGE = descriptorOf(DOCUMENT, MEDIA.ociManifest);
const trace = (blocks: number): Trace => [{ blobId: "a".repeat(64), offset: 0, length: 4096 * blocks }];
const at = (second: number): { created: Date } => ({ created: new Date(second * 1000) });

let root: string;
let registry: ServedRegistry;
let store: RegistryStore;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "kept-list-"));
  registry = await serveRegistry({ root });
  store = new RegistryStore(`${registry.host}/a`, { retry: { attempts: 1 } });
  await store.push(CONFIG, streamOf(EMPTY));
  await store.push(IMAGE, streamOf(DOCUMENT));
});
afterEach(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

/** Something that says it is a list. */
async function attach(bytes: Uint8Array, size = bytes.byteLength): Promise<void> {
  const layer = { ...descriptorOf(bytes, LIST_TYPE), size };
  await store.push(descriptorOf(bytes), streamOf(bytes));
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    artifactType: LIST_TYPE,
    config: CONFIG,
  };
  const document = encodeJson({ ...manifest, layers: [layer], subject: IMAGE });
  const entry = { ...descriptorOf(document, MEDIA.ociManifest), artifactType: LIST_TYPE };
  await store.attach(IMAGE.digest, entry, document);
}

test("an image has no list, then the newest one that was pushed", async () => {
  expect(await fetchList(store, IMAGE.digest)).toBeUndefined();
  expect(await pushList(store, IMAGE, trace(2), at(20))).toBe(true);
  expect(await pushList(store, IMAGE, trace(1), at(10))).toBe(true);
  expect(await fetchList(store, IMAGE.digest)).toEqual(trace(2));
});

test("a list that is there already is not pushed again", async () => {
  expect(await pushList(store, IMAGE, trace(1), at(10))).toBe(true);
  expect(await pushList(store, IMAGE, trace(1), at(20))).toBe(false);
});

test.each([
  ["is not JSON", Buffer.from("{")],
  ["names no blobs", Buffer.from('{"version":1,"blobs":["x"],"ranges":[]}')],
  [
    "has a range that is none",
    Buffer.from(`{"version":1,"blobs":["${"a".repeat(64)}"],"ranges":[[0,-1,1]]}`),
  ],
])("a list that %s is refused", async (_, bytes) => {
  await attach(bytes);
  await expect(fetchList(store, IMAGE.digest)).rejects.toMatchObject({ code: "corrupt" });
});

test("a list that says it is huge is not fetched", async () => {
  await attach(Buffer.from("x"), 2 ** 40);
  await expect(fetchList(store, IMAGE.digest)).rejects.toThrow(/it has 1099511627776 bytes/);
});
