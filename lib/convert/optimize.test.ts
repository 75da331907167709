import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeNydusLayout } from "../../tests/support/nydus-layout.ts";
import { Random } from "../../tests/support/random.ts";
import type { TarItem } from "../../tests/support/tar-builder.ts";
import { byteStringOf } from "../base/byte-string.ts";
import { digestHex } from "../base/digest.ts";
import type { Trace } from "../blob/trace.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { ANNOTATION, MEDIA } from "../oci/media-types.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { dumpTree } from "../tree/dump.ts";
import type { RegularFile } from "../tree/tree.ts";
import { optimize } from "./optimize.ts";
import { reverse } from "./reverse.ts";

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "optimize-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

const CHUNK = 4096;
const NAMES = ["a", "b", "c", "d"] as const;

function layers(): TarItem[][] {
  const random = new Random(7);
  const file = (path: string): TarItem => ({ path, type: "file", data: random.noise(3 * CHUNK) });
  return [
    [file("a"), file("b"), { path: "b2", type: "hardlink", target: "b" }],
    [file("c"), file("d")],
  ];
}

function fileOf({ root }: NydusImage, name: string): RegularFile {
  const node = root.entries.get(byteStringOf(name));
  if (node?.kind !== "file") throw new Error(`no file ${name}`);
  return node;
}

/** One chunk of each file, in this order. */
async function traceOf(location: string, names: readonly string[]): Promise<Trace> {
  await using image = await NydusImage.open({ location });
  return names.flatMap((name) => {
    const chunk = fileOf(image, name).chunks[1];
    return chunk === undefined
      ? []
      : [{ blobId: chunk.blob.id, offset: chunk.uncompressedOffset, length: CHUNK }];
  });
}

async function contents(location: string): Promise<Record<string, string>> {
  await using image = await NydusImage.open({ location });
  const read = async (name: string): Promise<string> =>
    Buffer.concat(await Array.fromAsync(image.read(fileOf(image, name)))).toString("hex");
  return Object.fromEntries(await Promise.all(NAMES.map(async (name) => [name, await read(name)])));
}

/** Where each chunk of a file is: in which blob of the manifest, and as which of its chunks. */
async function placesOf(location: string, name: string): Promise<[layer: number, index: number][]> {
  await using image = await NydusImage.open({ location });
  const digests = image.image?.manifest.layers.map(({ digest }) => digestHex(digest)) ?? [];
  return fileOf(image, name).chunks.map(({ blob, index }) => [digests.indexOf(blob.id), index]);
}

test("optimize() puts what the trace names into one blob, in its order, and changes no content", async () => {
  const { nydus } = await writeNydusLayout(place, layers(), { chunkSize: CHUNK });
  const target = `oci:${join(place, "hot")}:h`;
  const trace = await traceOf(nydus, ["d", "b", "a"]);
  const report = await optimize({ location: nydus, target, trace });
  expect(report.hot.chunks).toBe(3);
  expect(await contents(target)).toEqual(await contents(nydus));
  expect(await placesOf(target, "d")).toEqual([
    [1, 3],
    [2, 0],
    [1, 5],
  ]);
  expect((await placesOf(target, "b2"))[1]).toEqual([2, 1]);
  expect((await placesOf(target, "c")).map(([layer]) => layer)).toEqual([1, 1, 1]);
});

test("optimize() writes what the reference's optimize writes: blob, feature, annotation, config", async () => {
  const { nydus } = await writeNydusLayout(place, layers(), { chunkSize: CHUNK });
  const target = `oci:${join(place, "hot")}:h`;
  await optimize({ location: nydus, target, trace: await traceOf(nydus, ["a"]) });
  await using image = await NydusImage.open({ location: target });
  const { manifest, config } = image.image ?? {};
  const [hot, bootstrap] = manifest?.layers.slice(-2) ?? [];
  expect(manifest?.layers).toHaveLength(4);
  expect(hot).toMatchObject({ mediaType: MEDIA.nydusBlob, annotations: { [ANNOTATION.nydusBlob]: "true" } });
  expect(bootstrap?.annotations).toMatchObject({
    [ANNOTATION.nydusBootstrap]: "true",
    [ANNOTATION.nydusHotBlob]: hot?.digest.slice("sha256:".length),
  });
  expect(config?.rootfs.diff_ids[2]).toBe(hot?.digest);
  expect(config?.history?.at(-1)?.comment).toBe("Nydus Bootstrap Layer");
  const marked = image.bootstrap.blobs.filter(({ features }) => features & BLOB_FEATURES.separatedPrefetch);
  expect(marked.map(({ id }) => `sha256:${id}`)).toEqual([hot?.digest]);
});

test("optimize() writes the same bytes for the same trace, and can be used again on what it wrote", async () => {
  const { nydus } = await writeNydusLayout(place, layers(), { chunkSize: CHUNK });
  const trace = await traceOf(nydus, ["c", "a"]);
  const [one, two, again] = ["one", "two", "again"].map((name) => `oci:${join(place, name)}:h`);
  const first = await optimize({ location: nydus, target: one ?? "", trace });
  const second = await optimize({ location: nydus, target: two ?? "", trace });
  expect(second.targetDigest).toBe(first.targetDigest);
  const other = await traceOf(one ?? "", ["b"]);
  const report = await optimize({ location: one ?? "", target: again ?? "", trace: other });
  expect(report.hot.chunks).toBe(1);
  expect(await contents(again ?? "")).toEqual(await contents(nydus));
  await using image = await NydusImage.open({ location: again ?? "" });
  const marked = image.bootstrap.blobs.filter(({ features }) => features & BLOB_FEATURES.separatedPrefetch);
  expect(marked.map(({ id }) => `sha256:${id}`)).toEqual([report.hot.digest]);
});

test("optimize() refuses a trace of another image", async () => {
  const { nydus } = await writeNydusLayout(place, layers(), { chunkSize: CHUNK });
  const trace = [{ blobId: "0".repeat(64), offset: 0, length: CHUNK }];
  const done = optimize({ location: nydus, target: `oci:${join(place, "hot")}:h`, trace });
  await expect(done).rejects.toMatchObject({ code: "usage" });
});

test("an optimized image becomes an ordinary one again", async () => {
  const { nydus } = await writeNydusLayout(place, layers(), { chunkSize: CHUNK });
  const target = `oci:${join(place, "hot")}:h`;
  await optimize({ location: nydus, target, trace: await traceOf(nydus, ["d", "a"]) });
  const report = await reverse({ location: target, target: `oci:${join(place, "back")}:t` });
  expect(report.squashed).toBeUndefined();
  await using before = await NydusImage.open({ location: nydus });
  await using after = await NydusImage.open({ location: target });
  expect([...dumpTree(after.root)]).toEqual([...dumpTree(before.root)]);
});

test.each([
  ["batches", { batchSize: 2 * CHUNK, chunkSize: 4 * CHUNK }],
  ["original gzip layers", { reference: true, chunkSize: CHUNK }],
])("optimize() takes chunks out of %s", async (_, options) => {
  const { nydus } = await writeNydusLayout(place, layers(), options);
  const target = `oci:${join(place, "hot")}:h`;
  await using image = await NydusImage.open({ location: nydus });
  const [chunk] = fileOf(image, "c").chunks;
  const trace = [{ blobId: chunk?.blob.id ?? "", offset: chunk?.uncompressedOffset ?? 0, length: CHUNK }];
  const report = await optimize({ location: nydus, target, trace });
  expect(report.hot.chunks).toBe(1);
  expect(await contents(target)).toEqual(await contents(nydus));
  await using after = await NydusImage.open({ location: target });
  expect(fileOf(after, "c").chunks[0]?.blob.id).toBe(report.hot.digest.slice("sha256:".length));
});

test("optimize() does not write parts of an encrypted image in the clear", async () => {
  const { nydus } = await writeNydusLayout(place, layers(), { chunkSize: CHUNK, encrypt: true });
  const trace = await traceOf(nydus, ["a"]);
  const done = optimize({ location: nydus, target: `oci:${join(place, "hot")}:h`, trace });
  await expect(done).rejects.toMatchObject({ code: "unsupported" });
});
