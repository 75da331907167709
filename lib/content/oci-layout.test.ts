import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { encodeJson } from "../oci/json.ts";
import { MEDIA } from "../oci/media-types.ts";
import { descriptorOf, sampleBytes, testBlobStore } from "./contract.test-support.ts";
import { OciLayout } from "./oci-layout.ts";
import { streamOf } from "./verified.ts";

let root = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "nydus-layout-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function opened(): Promise<OciLayout> {
  return OciLayout.open(join(root, "layout"), { create: true });
}

testBlobStore("OciLayout", async () => {
  const store = await opened();
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      const left = await readdir(join(root, "layout", "blobs", "sha256"));
      expect(left.filter((name) => !/^[0-9a-f]{64}$/.test(name))).toEqual([]);
    },
  };
});

const MANIFEST = encodeJson({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: {}, layers: [] });
const DESCRIPTOR = descriptorOf(MANIFEST, MEDIA.ociManifest);
const OTHER = encodeJson({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: {}, layers: [1] });

async function withTags(...tags: string[]): Promise<OciLayout> {
  const layout = await opened();
  await layout.push(DESCRIPTOR, streamOf(MANIFEST));
  for (const tag of tags) await layout.tag(DESCRIPTOR, tag);
  return layout;
}

test("OciLayout.open() fails with not_found where there is no layout", async () => {
  await expect(OciLayout.open(join(root, "none"))).rejects.toMatchObject({ code: "not_found" });
});

test("OciLayout.open() refuses a layout of another version", async () => {
  await opened();
  await writeFile(join(root, "layout", "oci-layout"), `{"imageLayoutVersion":"2.0.0"}`);
  await expect(opened()).rejects.toMatchObject({ code: "unsupported" });
});

test("OciLayout.resolve() finds a tag, a digest and the only image", async () => {
  const layout = await withTags("one", "two");
  for (const reference of ["one", "two", DESCRIPTOR.digest, `@${DESCRIPTOR.digest}`, undefined])
    expect(await layout.resolve(reference)).toMatchObject({ digest: DESCRIPTOR.digest });
});

test("OciLayout.resolve() names the tags there are", async () => {
  const layout = await withTags("one");
  await expect(layout.resolve("three")).rejects.toThrow(
    `Cannot find "three" in oci:${root}/layout: it has one`,
  );
});

test("OciLayout.resolve() asks for a tag when images differ", async () => {
  const layout = await withTags("one");
  const other = descriptorOf(OTHER, MEDIA.ociManifest);
  await layout.push(other, streamOf(OTHER));
  await layout.tag(other, "two");
  await expect(layout.resolve()).rejects.toMatchObject({ code: "usage" });
});

test("OciLayout.tag() moves a tag", async () => {
  const layout = await withTags("one");
  const other = descriptorOf(OTHER, MEDIA.ociManifest);
  await layout.push(other, streamOf(OTHER));
  await layout.tag(other, "one");
  expect((await layout.resolve("one")).digest).toBe(other.digest);
  expect(await layout.tags()).toEqual(["one"]);
});

test("OciLayout.tag() keeps tags that are set at the same time", async () => {
  const layout = await withTags();
  await Promise.all(["a", "b", "c", "d"].map((tag) => layout.tag(DESCRIPTOR, tag)));
  expect([...(await layout.tags())].sort()).toEqual(["a", "b", "c", "d"]);
});

test("OciLayout.tag() refuses what is not there or is no manifest", async () => {
  const layout = await opened();
  await expect(layout.tag(DESCRIPTOR, "x")).rejects.toMatchObject({ code: "not_found" });
  await expect(layout.tag(descriptorOf(MANIFEST), "x")).rejects.toMatchObject({ code: "usage" });
});

test("OciLayout.resolve() fails with corrupt when index.json is cut short", async () => {
  const layout = await withTags("one");
  const path = join(root, "layout", "index.json");
  await writeFile(path, (await readFile(path)).subarray(0, 40));
  await expect(layout.resolve("one")).rejects.toMatchObject({ code: "corrupt" });
});

test("OciLayout.fetch() fails with corrupt when a blob was changed on disk", async () => {
  const layout = await opened();
  const bytes = sampleBytes(10_000);
  const blob = descriptorOf(bytes);
  await layout.push(blob, streamOf(bytes));
  bytes[5000] = (bytes[5000] ?? 0) ^ 0x10;
  await writeFile(join(root, "layout", "blobs", "sha256", blob.digest.slice(7)), bytes);
  const body = await layout.fetch(blob);
  await expect(Array.fromAsync(body)).rejects.toMatchObject({ code: "corrupt" });
});
