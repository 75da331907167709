import { cp, mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeLayout } from "../../tests/support/oci-layout.ts";
import { Random } from "../../tests/support/random.ts";
import type { TarItem } from "../../tests/support/tar-builder.ts";
import {
  sha256Of,
  type TocFormat,
  type TocItem,
  type TocOptions,
  tocLayer,
} from "../../tests/support/toc-builder.ts";
import { byteStringOf } from "../base/byte-string.ts";
import { isCode } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import { quietLogger } from "../base/log.ts";
import { BlobCache } from "../blob/cache.ts";
import { BlobReader } from "../blob/reader.ts";
import { loadImage } from "../image/load.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { openStore } from "../image/open.ts";
import { isPieced } from "../rafs/chunk-map.ts";
import type { Directory } from "../tree/tree.ts";
import { adoptForNow, adoptImage } from "./adopt.ts";
import { adoptedPlace } from "./adopted-place.ts";

const FORMATS: readonly TocFormat[] = ["estargz", "zstd:chunked", "podman"];
const MIB = 1024 * 1024;

let root: string;
beforeEach(async () => {
  root = await mkdtemp("/tmp/nt-layers-");
});
afterEach(() => rm(root, { recursive: true, force: true }));

const random = new Random(3);
const file = (path: string, data: Uint8Array): TarItem => ({ path, type: "file", data });
const FILES: ReadonlyMap<string, Uint8Array> = new Map([
  ["one-byte", Buffer.from("1")],
  ["small", random.noise(3000)],
  ["same", random.noise(5000)],
  ["same-again", Buffer.alloc(0)],
  ["exactly-one", random.noise(MIB)],
  ["seam", random.noise(MIB + 1)],
  ["large", random.noise(5 * MIB + 123)],
]);

function items(): TarItem[] {
  const files = [...FILES].map(([path, data]) =>
    file(path, path === "same-again" ? (FILES.get("same") ?? data) : data),
  );
  return [
    { path: "d/", type: "dir", mode: 0o750 },
    ...files,
    { path: "d/l", type: "symlink", target: "../small" },
  ];
}

/** Without the largest: for what is tried often. */
function few(): TarItem[] {
  return items().filter(({ path }) => path !== "large" && path !== "exactly-one");
}

async function open(layers: Parameters<typeof writeLayout>[1]): Promise<NydusImage> {
  await writeLayout(join(root, "image"), layers);
  return await NydusImage.open({
    location: `oci:${join(root, "image")}:t`,
    adopt: (store, image) => adoptForNow(store, image),
  });
}

async function contentOf(image: NydusImage, directory: Directory, path: string): Promise<string | undefined> {
  const node = directory.entries.get(byteStringOf(path));
  if (node?.kind !== "file") return undefined;
  return sha256Of(Buffer.concat(await Array.fromAsync(image.read(node))));
}

async function expectFiles(image: NydusImage): Promise<void> {
  for (const { path, data } of items())
    if (data !== undefined) expect(await contentOf(image, image.root, path)).toBe(sha256Of(data));
}

test.each<TocOptions>([
  { format: "estargz" },
  { format: "estargz", chunkSize: 70_000 },
  { format: "estargz", chunkSize: 70_000, minStream: 200_000 },
  { format: "estargz", minStream: 3 * MIB },
  { format: "zstd:chunked", chunkSize: MIB },
  { format: "zstd:chunked", chunkSize: 3 * MIB, minStream: 10 },
  { format: "podman", chunkSize: 50_000 },
  { format: "podman", chunkSize: 8 * MIB },
])("files of a layer are the same through its table of contents: %o", async (options) => {
  await using image = await open([tocLayer(items(), options)]);
  await expectFiles(image);
  const large = image.root.entries.get(byteStringOf("large"));
  if (large?.kind !== "file") throw new Error("there is no large file");
  const middle = await Array.fromAsync(image.read(large, { start: 3 * MIB - 5, end: 4 * MIB + 7 }));
  const wanted = FILES.get("large")?.subarray(3 * MIB - 5, 4 * MIB + 7) ?? new Uint8Array();
  expect(sha256Of(Buffer.concat(middle))).toBe(sha256Of(wanted));
});

test("chunks of one file in several streams share what they are cut out of", async () => {
  await using image = await open([tocLayer(items(), { format: "estargz" })]);
  const [map] = await image.chunkMaps();
  const units = new Set(map?.units?.unitOf);
  expect(units.size).toBeLessThan(map?.count ?? 0);
});

test("an image is made once, and what a killed process left goes away", async () => {
  await writeLayout(join(root, "image"), [tocLayer(items(), { format: "estargz" })]);
  const { store } = await openStore(`oci:${join(root, "image")}:t`);
  await using _store = store;
  const image = await loadImage(store, "t");
  const place = adoptedPlace(join(root, "cache"), image);
  const left = join(root, "cache/adopted/.adopting-4194305-x");
  await mkdir(left, { recursive: true });
  await utimes(left, 1_000_000, 1_000_000);
  const [one, two] = await Promise.all([adoptImage(store, image, place), adoptImage(store, image, place)]);
  expect(one).toEqual(two);
  expect(await readdir(join(root, "cache/adopted"))).toHaveLength(1);
  const nobody = { fetch: () => Promise.reject(new Error("asked again")) };
  expect(await adoptImage(nobody, image, place)).toEqual(one);
  await writeFile(join(place, "adopted.json"), JSON.stringify({ version: 0 }));
  await expect(adoptImage(nobody, image, place)).rejects.toThrow("asked again");
  await writeFile(join(place, "adopted.json"), "{");
  expect(await adoptImage(store, image, place)).toEqual(one);
  expect(await readdir(place)).toContain("image.boot");
});

const corrupt: readonly (readonly [what: string, edit: (entries: TocItem[]) => void])[] = [
  ["names that climb out", (entries) => entries.push({ name: "../x", type: "reg" })],
  ["a type that is not known", (entries) => entries.push({ name: "x", type: "door" })],
  ["a type of JavaScript's own", (entries) => entries.push({ name: "x", type: "constructor" })],
  ["a hard link to itself", (entries) => entries.push({ name: "h", type: "hardlink", linkName: "h" })],
  ["a hard link to a directory", (entries) => entries.push({ name: "h", type: "hardlink", linkName: "d" })],
  ["an empty symbolic link", (entries) => entries.push({ name: "l", type: "symlink" })],
  ["a file below a file", (entries) => entries.push({ name: "small/x", type: "reg" })],
  [
    "a loop of links",
    (entries) => entries.push({ name: "o", type: "symlink", linkName: "o" }, { name: "o/x", type: "reg" }),
  ],
  ["a size that is negative", (entries) => entries.push({ name: "x", type: "reg", size: -1 })],
  ["a size that is no number", (entries) => entries.push({ name: "x", type: "reg", size: "9" })],
  ["chunks that belong to nothing", (entries) => entries.unshift({ name: "x", type: "chunk" })],
  [
    "chunks of a directory",
    (entries) => entries.push({ name: "x", type: "dir" }, { name: "x", type: "chunk" }),
  ],
  ["a file without data", (entries) => Object.assign(at(entries, "small"), { offset: 2 ** 40 })],
  [
    "a file that is larger than its chunks",
    (entries) => Object.assign(at(entries, "seam"), { size: 2 ** 40, chunkSize: MIB }),
  ],
  ["a time that is none", (entries) => Object.assign(at(entries, "small"), { modtime: "yesterday" })],
  ["an xattr that is none", (entries) => Object.assign(at(entries, "small"), { xattrs: { "user.x": "*" } })],
  ["a device that Linux has not", (entries) => entries.push({ name: "x", type: "char", devMajor: 99999 })],
];

function at(entries: TocItem[], name: string): TocItem {
  const found = entries.find((entry) => entry.name === name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
}

test.each(corrupt)("a table of contents with %s is refused", async (_, edit) => {
  for (const format of FORMATS)
    await expect(open([tocLayer(few(), { format, edit })])).rejects.toMatchObject({ code: "corrupt" });
});

test.each<readonly [what: string, edit: (entries: TocItem[]) => void]>([
  ["lost names", (entries) => Object.assign(at(entries, "small"), { name: "\ufffd" })],
  [
    "no digests",
    (entries) => Object.assign(at(entries, "small"), { chunkDigest: undefined, digest: undefined }),
  ],
  ["digests of another kind", (entries) => Object.assign(at(entries, "small"), { chunkDigest: "sha512:00" })],
])("a layer whose table has %s is read from its tar", async (_, edit) => {
  await using image = await open([tocLayer(items(), { format: "estargz", edit })]);
  await expectFiles(image);
});

const KEYS = [
  "offset",
  "endOffset",
  "innerOffset",
  "chunkOffset",
  "chunkSize",
  "chunkDigest",
  "digest",
  "size",
];

/** Changes one field of one entry: a number nearby or anywhere, or another entry's value. */
const edits = fc.record({
  entry: fc.nat(30),
  key: fc.constantFrom(...KEYS),
  value: fc.oneof(
    fc.integer({ min: -3, max: 3 }).map((by) => (old: unknown) => Number(old ?? 0) + by),
    fc.nat(2 ** 32).map((value) => () => value),
    fc.constant(() => undefined),
    fc
      .nat(30)
      .map(
        (other) => (_: unknown, entries: TocItem[], key: string) => entries[other % entries.length]?.[key],
      ),
  ),
});

const NOTHING = sha256Of(new Uint8Array());

test.each(FORMATS)("a %s table that lies gives an error or the right bytes", async (format) => {
  const lie = async ({ entry, key, value }: Awaited<ReturnType<typeof sample>>): Promise<void> => {
    const edit = (entries: TocItem[]): void => {
      const changed = entries[entry % entries.length];
      if (changed !== undefined) changed[key] = value(changed[key], entries, key);
    };
    try {
      await using image = await open([tocLayer(few(), { format, chunkSize: 300_000, edit })]);
      for (const { path, data } of few()) {
        if (data === undefined) continue;
        const found = await contentOf(image, image.root, path).catch((error: unknown) => {
          if (!isCode(error, "corrupt")) throw error;
        });
        // A size of nothing is a file of nothing: that is what the author signed.
        if (found !== undefined && found !== NOTHING) expect(found).toBe(sha256Of(data));
      }
    } catch (error) {
      if (!isCode(error, "corrupt") && !isCode(error, "unsupported")) throw error;
    }
  };
  await fc.assert(fc.asyncProperty(edits, lie), { numRuns: 40 });
});

const sample = async () => fc.sample(edits, 1)[0] as typeof edits extends fc.Arbitrary<infer T> ? T : never;

test("after a power cut, chunks that are put together of pieces are fetched again, others only checked", async () => {
  await using image = await open([tocLayer(items(), { format: "podman", chunkSize: 200_000 })]);
  const [map] = await image.chunkMaps();
  if (map === undefined) throw new Error("there is no blob");
  const readAll = async (directory = "cache"): Promise<{ content: string; chunks: number }> => {
    using cache = new BlobCache(join(root, directory));
    using blob = cache.open(map);
    const reader = new BlobReader({
      blob,
      fetcher: image.fetcher,
      hasher: image.hasher,
      limiter: new Limiter(1),
      log: quietLogger,
      signal: new AbortController().signal,
    });
    const content = new Uint8Array(map.uncompressedSize);
    await reader.read(0, content);
    return { content: sha256Of(content), chunks: reader.counters.chunks };
  };
  const first = await readAll();
  expect(first.chunks).toBe(map.count);
  expect(await readAll()).toEqual({ ...first, chunks: 0 });
  // A copy of the directory is another file, and may be of another moment.
  await cp(join(root, "cache"), join(root, "copy"), { recursive: true });
  const pieced = Array.from({ length: map.count }, (_, i) => isPieced(map, i)).filter((it) => it).length;
  expect(pieced).toBeGreaterThan(3);
  expect(pieced).toBeLessThan(map.count);
  const { content, chunks } = await readAll("copy");
  expect(content).toBe(first.content);
  expect(chunks).toBe(pieced);
});
