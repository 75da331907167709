import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { decompressChunk } from "../base/compression.ts";
import { chunkHasher, digestOf, sha256 } from "../base/digest.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { BlobWriter, type BlobWriterOptions } from "./blob-writer.ts";
import { decodeChunkInfoHeader, decodeChunkInfos } from "./compression-info.ts";
import { FRAME_SIZE, readSections } from "./framing.ts";
import { decodeToc } from "./toc.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "blob-writer-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const BOOTSTRAP = Buffer.alloc(8192, "bootstrap");
const text = (size: number, seed: number): Uint8Array =>
  Buffer.from(
    Array.from({ length: Math.ceil(size / 8) }, (_, i) => `${(i * seed) % 1000}`.padEnd(8)).join(""),
  ).subarray(0, size);
const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("hex");
const noise = (size: number): Uint8Array => crypto.getRandomValues(new Uint8Array(size));

const CHUNKS = [text(5000, 1), text(100_000, 2), noise(4097), text(1, 3), noise(1000)];

async function write(options: Partial<BlobWriterOptions> = {}, chunks = CHUNKS, name = "blob") {
  const hasher = options.hasher ?? (await chunkHasher("sha256"));
  using writer = new BlobWriter(join(directory, name), { compressor: "zstd", ...options, hasher });
  const refs = chunks.map((chunk) => writer.add(chunk));
  let listed: BlobInfo | undefined;
  const result = await writer.finish((blob) => {
    listed = blob;
    return BOOTSTRAP;
  });
  const bytes = await readFile(result.path);
  const sections = await readSections(async (at, n) => bytes.subarray(at, at + n), bytes.byteLength);
  const toc = decodeToc(sectionOf(bytes, sections, "rafs.blob.toc"));
  return { refs, listed, result, bytes, sections, toc };
}

function sectionOf(
  bytes: Uint8Array,
  sections: Awaited<ReturnType<typeof readSections>>,
  name: string,
): Uint8Array {
  const found = sections.find((s) => s.name === name);
  if (found === undefined) throw new Error(`no section ${name}`);
  return bytes.subarray(found.offset, found.offset + found.size);
}

test.each(["zstd", "lz4_block", "none"] as const)(
  "BlobWriter stores every chunk where its reference says (%s)",
  async (compressor) => {
    const { refs, bytes, result } = await write({ compressor });
    for (const [i, ref] of refs.entries()) {
      const chunk = CHUNKS[i] as Uint8Array;
      const stored = bytes.subarray(ref.compressedOffset, ref.compressedOffset + ref.compressedSize);
      const content = ref.compressed ? decompressChunk(compressor, stored, ref.uncompressedSize) : stored;
      expect(Buffer.compare(content, chunk)).toBe(0);
      expect(hex(ref.digest)).toBe(hex(sha256(chunk)));
      expect(ref.uncompressedOffset % 4096).toBe(0);
      expect(ref.blob.id).toBe(result.info?.id);
      expect(ref.compressed).toBe(ref.compressedSize !== ref.uncompressedSize);
    }
    expect(refs.map((ref) => ref.index)).toEqual([0, 1, 2, 3, 4]);
    expect(refs.map((ref) => ref.uncompressedOffset)).toEqual([0, 8192, 110592, 118784, 122880]);
    expect(refs[2]?.compressed).toBe(false);
  },
);

test("BlobWriter names the blob after the file's true digest", async () => {
  const { result, bytes } = await write();
  expect(result.digest).toBe(digestOf(bytes));
  expect(result.size).toBe(bytes.byteLength);
  expect(`sha256:${result.info?.id}`).toBe(result.digest);
});

test("BlobWriter lists the blob as the reference does, inside and outside", async () => {
  const { listed, result, sections } = await write();
  const boot = sections.find((s) => s.name === "image.boot");
  expect(listed?.id).toBe("x".repeat(64));
  expect(listed?.features).toBe(0x7000_0023);
  expect(listed?.compressedSize).toBe(boot?.offset);
  expect(listed?.uncompressedSize).toBe(126976);
  expect(result.info).toEqual({ ...listed, id: result.info?.id, features: 0x7000_0021 });
});

test.each([
  ["zstd", "zstd"],
  ["lz4_block", "zstd"],
  ["none", "none"],
] as const)(
  "BlobWriter describes the chunks of a %s blob, compressed by %s",
  async (compressor, expected) => {
    const many = Array.from({ length: 300 }, (_, i) => text(10, i + 7));
    const { refs, result, bytes, sections, toc } = await write({ compressor }, many);
    const section = Buffer.from(sectionOf(bytes, sections, "blob.meta"));
    const header = decodeChunkInfoHeader(section.subarray(-4096));
    expect(header).toMatchObject({
      features: 0x7000_0023,
      compressor: expected,
      entries: result.info?.chunkCount,
      offset: result.info?.ciOffset,
      compressedSize: result.info?.ciCompressedSize,
      uncompressedSize: result.info?.ciUncompressedSize,
    });
    expect(result.info?.ciCompressor).toBe(expected);
    const array = decompressChunk(expected, section.subarray(0, -4096), header.uncompressedSize);
    const infos = decodeChunkInfos(array);
    for (const ref of refs) expect(ref).toMatchObject(infos[ref.index] ?? {});
    expect(toc[1]).toMatchObject({ name: "blob.meta", compressor: expected });
    expect(hex(toc[1]?.digest)).toBe(hex(sha256(array)));
    expect(hex(result.chunkInfo?.subarray(0, array.byteLength))).toBe(hex(array));
  },
);

test("BlobWriter writes a table of contents whose digests hold", async () => {
  const { toc, bytes, sections, result } = await write();
  expect(sections.map((s) => s.name)).toEqual([
    "image.blob",
    "blob.meta",
    "blob.digest",
    "image.boot",
    "rafs.blob.toc",
  ]);
  expect(toc.map((e) => e.name)).toEqual([
    "image.blob",
    "blob.meta",
    "blob.meta.header",
    "blob.digest",
    "image.boot",
  ]);
  const [data, ...others] = toc;
  expect(hex(data?.digest)).toBe(hex(sha256(bytes.subarray(0, (data?.compressedSize ?? 0) + FRAME_SIZE))));
  expect(data?.uncompressedSize).toBe(result.info?.uncompressedSize);
  for (const e of others) {
    const stored = bytes.subarray(e.offset, e.offset + e.compressedSize);
    expect(hex(sha256(decompressChunk(e.compressor, stored, e.uncompressedSize)))).toBe(hex(e.digest));
  }
});

test("BlobWriter stores a chunk once, and the first one wins", async () => {
  const again = [CHUNKS[1], CHUNKS[0], CHUNKS[1]] as Uint8Array[];
  const { refs, result } = await write({}, [...CHUNKS, ...again]);
  expect(refs[5]).toBe(refs[1]);
  expect(refs[6]).toBe(refs[0]);
  expect(result.info?.chunkCount).toBe(CHUNKS.length);
});

test("BlobWriter writes a blob without data as bootstrap and table of contents", async () => {
  const { result, sections, toc, listed } = await write({}, []);
  expect(sections.map((s) => s.name)).toEqual(["image.boot", "rafs.blob.toc"]);
  expect(toc.map((e) => e.name)).toEqual(["image.boot"]);
  expect([listed, result.info, result.chunkInfo]).toEqual([undefined, undefined, undefined]);
});

test("BlobWriter gives the same bytes for the same chunks", async () => {
  const large = Array.from({ length: 8 }, (_, i) => text(200_000 + i, i + 1));
  const first = await write({}, large, "first");
  const second = await write({}, large, "second");
  expect(second.result.digest).toBe(first.result.digest);
});

test("BlobWriter digests chunks with BLAKE3 when asked", async () => {
  const { refs, result } = await write({ hasher: await chunkHasher("blake3") }, [new Uint8Array(1)]);
  // BLAKE3's published test vector for one zero byte.
  const published = "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213";
  expect(hex(refs[0]?.digest)).toBe(published);
  expect(result.info?.digester).toBe("blake3");
});

test("BlobWriter does not touch a file that exists", async () => {
  await write({}, [], "taken");
  await expect(write({}, [], "taken")).rejects.toMatchObject({ code: "exists" });
});

const GOLDEN = join(import.meta.dirname, "../../../shared/golden/images");
const IMAGES = ["v6-zstd", "v6-lz4", "v6-none", "v6-chunk64k"];

test.skipIf(!existsSync(GOLDEN)).each(IMAGES)("decoders read the golden blobs of %s", async (image) => {
  const blobs = join(GOLDEN, image, "blobs/sha256");
  let checked = 0;
  for (const name of await Array.fromAsync(new Bun.Glob("*").scan(blobs))) {
    const bytes = await readFile(join(blobs, name));
    if (bytes.toString("latin1", bytes.byteLength - 512).replace(/\0.*$/s, "") !== "rafs.blob.toc") continue;
    const sections = await readSections(async (at, n) => bytes.subarray(at, at + n), bytes.byteLength);
    const toc = decodeToc(sectionOf(bytes, sections, "rafs.blob.toc"));
    for (const e of toc) {
      const framed = e.name === "image.blob" ? FRAME_SIZE : 0;
      const stored = bytes.subarray(e.offset, e.offset + e.compressedSize + framed);
      const content = framed ? stored : decompressChunk(e.compressor, stored, e.uncompressedSize);
      expect(hex(sha256(content))).toBe(hex(e.digest));
    }
    const meta = Buffer.from(sectionOf(bytes, sections, "blob.meta"));
    const header = decodeChunkInfoHeader(meta.subarray(-4096));
    expect(header).toMatchObject({ features: 0x7000_0023, offset: toc[1]?.offset });
    const array = decompressChunk(header.compressor, meta.subarray(0, -4096), header.uncompressedSize);
    const infos = decodeChunkInfos(array);
    expect(infos.length).toBe(header.entries);
    expect(infos.at(-1)?.compressedOffset).toBeLessThan(toc[0]?.compressedSize ?? 0);
    checked++;
  }
  expect(checked).toBe(3);
});
