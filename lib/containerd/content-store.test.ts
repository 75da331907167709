import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Containerd, startContainerd } from "../../tests/support/containerd.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { type StoreUnderTest, testBlobStore } from "../content/contract.test-support.ts";
import { readAll, streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MEDIA } from "../oci/media-types.ts";
import { ContainerdClient } from "./client.ts";
import { ContentStore } from "./content-store.ts";
import { Leases } from "./gen/leases_pb.ts";
import { ImageRecords } from "./images.ts";
import { withLease } from "./leases.ts";

let daemon: Containerd;
let client: ContainerdClient;
let store: ContentStore;

beforeAll(async () => {
  daemon = await startContainerd({ directory: await mkdtemp("/tmp/nt-content-") });
  client = new ContainerdClient({ address: daemon.address, namespace: "default" });
  store = new ContentStore(client);
});

afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
});

testBlobStore("ContentStore", async (): Promise<StoreUnderTest> => {
  const own = new ContainerdClient({ address: daemon.address, namespace: "contract" });
  const { lease } = await own.service(Leases).create({ id: randomUUID() });
  const id = lease?.id ?? "";
  return {
    store: new ContentStore(own.underLease(id)),
    async [Symbol.asyncDispose]() {
      await own.service(Leases).delete({ id, sync: true }); // and everything that was stored goes
      await own[Symbol.asyncDispose]();
    },
  };
});

/** Labelled as a root, or the next collection would take it. */
const KEEP = { "containerd.io/gc.root": "test" };

function blob(size: number): { bytes: Uint8Array; descriptor: Descriptor } {
  const bytes = randomBytes(size);
  return { bytes, descriptor: { mediaType: MEDIA.octets, digest: digestOf(bytes), size } };
}

const all = async (body: Promise<ReadableStream<Uint8Array>>): Promise<Uint8Array> =>
  readAll(await body, 2 ** 30, "a test blob");

test.each([0, 1, 65_536, 65_537, 5_000_000])(
  "ContentStore keeps a blob of %i bytes and reads it back whole and in ranges",
  async (size) => {
    const { bytes, descriptor } = blob(size);
    expect(await store.has(descriptor)).toBe(false);
    expect(await store.write(descriptor, () => streamOf(bytes), { labels: KEEP })).toBe("written");
    expect(await store.has(descriptor)).toBe(true);
    expect(digestOf(await all(store.fetch(descriptor)))).toBe(descriptor.digest);
    const [start, end] = [Math.floor(size / 3), Math.floor(size / 2)];
    const range = await all(store.fetch(descriptor, { range: { start, end } }));
    expect(Buffer.compare(range, bytes.subarray(start, end))).toBe(0);
  },
);

test("ContentStore.write() of a blob that is there adds labels and keeps the others", async () => {
  const { bytes, descriptor } = blob(1000);
  await store.write(descriptor, () => streamOf(bytes), { labels: KEEP });
  expect(await store.write(descriptor, () => streamOf(bytes), { labels: { a: "b" } })).toBe("exists");
  expect((await store.info(descriptor.digest))?.labels).toEqual({ ...KEEP, a: "b" });
});

test("ContentStore.write() stores a blob once when two writers race", async () => {
  const { bytes, descriptor } = blob(3_000_000);
  const outcomes = await Promise.all(
    [1, 2, 3].map(() => store.write(descriptor, () => streamOf(bytes), { labels: KEEP })),
  );
  expect(outcomes).toContain("written");
  expect((await all(store.fetch(descriptor))).byteLength).toBe(3_000_000);
});

test("ContentStore.write() stores nothing when the body is not what was announced", async () => {
  const { bytes, descriptor } = blob(300_000);
  const wrong = new Uint8Array(bytes);
  wrong[299_999] = (wrong[299_999] ?? 0) ^ 1;
  await expect(store.write(descriptor, () => streamOf(wrong))).rejects.toMatchObject({ code: "corrupt" });
  expect(await store.has(descriptor)).toBe(false);
  expect((await daemon.ctr(["content", "active"])).stdout).not.toContain("nydus-tool");
});

test("ContentStore.write() leaves no ingest when it is interrupted", async () => {
  const { bytes, descriptor } = blob(2_000_000);
  const stop = new AbortController();
  const sent = (): void => stop.abort();
  await expect(
    store.write(descriptor, () => streamOf(bytes), { signal: stop.signal, sent }),
  ).rejects.toMatchObject({ code: "cancelled" });
  expect(await store.has(descriptor)).toBe(false);
  expect((await daemon.ctr(["content", "active"])).stdout).not.toContain("nydus-tool");
});

test("ContentStore.fetch() fails with not_found for an absent digest", async () => {
  const descriptor = { mediaType: "", digest: `sha256:${"0".repeat(64)}` as Digest, size: 1 };
  await expect(store.fetch(descriptor)).rejects.toMatchObject({ code: "not_found" });
});

test("ContentStore.fetch() refuses a range past the end", async () => {
  const { bytes, descriptor } = blob(100);
  await store.write(descriptor, () => streamOf(bytes), { labels: KEEP });
  await expect(store.fetch(descriptor, { range: { start: 50, end: 101 } })).rejects.toMatchObject({
    code: "corrupt",
  });
});

test("ContentStore.resolve() finds an image by full name, short name and digest", async () => {
  const { bytes, descriptor: plain } = blob(10);
  const descriptor = { ...plain, mediaType: MEDIA.ociManifest };
  await store.write(descriptor, () => streamOf(bytes), { labels: KEEP });
  await store.tag(descriptor, "thing:v1");
  expect((await store.resolve("docker.io/library/thing:v1")).digest).toBe(descriptor.digest);
  expect((await store.resolve("thing:v1")).digest).toBe(descriptor.digest);
  expect((await store.resolve(descriptor.digest)).size).toBe(10);
  await expect(store.resolve("thing:v2")).rejects.toMatchObject({ code: "not_found" });
});

test("ImageRecords.put() moves a name to another target and keeps its other labels", async () => {
  const records = new ImageRecords(client);
  const [one, two] = [blob(5).descriptor, blob(6).descriptor];
  await records.put({ name: "test/move:t", target: one, labels: { a: "1", b: "1" } });
  await records.put({ name: "test/move:t", target: two, labels: { b: "2" } });
  expect(await records.get("test/move:t")).toMatchObject({
    target: { digest: two.digest },
    labels: { a: "1", b: "2" },
  });
  await records.remove("test/move:t");
  await records.remove("test/move:t");
  expect(await records.get("test/move:t")).toBeUndefined();
});

test("withLease() keeps content while it lasts and no longer", async () => {
  const { bytes, descriptor } = blob(10);
  await withLease(client, async (leased) => {
    await new ContentStore(leased).push(descriptor, streamOf(bytes));
    await withLease(client, async () => {}); // its end collects
    expect(await store.has(descriptor)).toBe(true);
  });
  expect(await store.has(descriptor)).toBe(false);
  expect((await daemon.ctr(["leases", "ls", "-q"])).stdout).toBe("");
});

test("ContainerdClient reconnects when containerd comes back", async () => {
  await store.resolve("none").catch(() => {});
  await daemon.stop();
  await expect(store.resolve("none")).rejects.toMatchObject({ code: "unavailable" });
  await daemon.start();
  await expect(store.resolve("none")).rejects.toMatchObject({ code: "not_found" });
});

test("ContainerdClient says which socket nobody answers at", async () => {
  await using nobody = new ContainerdClient({ address: "/tmp/nt-nobody.sock", namespace: "default" });
  await expect(new ImageRecords(nobody).list()).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining('Cannot list images in containerd at "/tmp/nt-nobody.sock"'),
  });
});
