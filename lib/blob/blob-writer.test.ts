import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { decompressChunk } from "../base/compression.ts";
import { chunkHasher, digestOf, sha256 } from "../base/digest.ts";
import { decryptXts } from "../base/xts.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { ChunkRef } from "../tree/tree.ts";
import { BlobWriter, type BlobWriterOptions } from "./blob-writer.ts";
import type { ChunkInfoV2 } from "./chunk-info-v2.ts";
import { decodeChunkInfos } from "./chunk-infos.ts";
import { cipherFor } from "./cipher.ts";
import { decodeChunkInfoHeader } from "./compression-info.ts";
import { FRAME_SIZE, readSections } from "./framing.ts";
import { chunkInfosOf } from "./sample-blob.test-support.ts";
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
  const refs = chunks.map((chunk) => writer.add(chunk, { wholeFile: true }));
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
    const infos = chunkInfosOf(array);
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

/** What the compression information says of each chunk, and the chunk as it says. */
async function readBack(options: Partial<BlobWriterOptions>, chunks: readonly Uint8Array[]) {
  const { result, bytes, refs } = await write(options, [...chunks]);
  const { info, chunkInfo = new Uint8Array() } = result;
  if (info === undefined) throw new Error("the blob lists nothing");
  const header = decodeChunkInfoHeader(chunkInfo.subarray(-4096));
  const array = chunkInfo.subarray(0, info.ciUncompressedSize);
  const infos = decodeChunkInfos(array, info, header);
  const { cipher } = options;
  const unitAt = (offset: number, size: number): Uint8Array => {
    const stored = bytes.subarray(offset, offset + size);
    return cipher === undefined ? stored : decryptXts(cipher.key, cipher.iv, stored);
  };
  const contentOf = (chunk: ChunkInfoV2): Uint8Array => {
    const unit = (chunk.flags & 4) === 0 ? undefined : infos.units[chunk.unit];
    if (unit === undefined) {
      const stored = unitAt(chunk.compressedOffset, chunk.compressedSize);
      return decompressChunk(
        (chunk.flags & 1) === 0 ? "none" : info.compressor,
        stored,
        chunk.uncompressedSize,
      );
    }
    const compressor = unit.storedSize === unit.size ? "none" : info.compressor;
    const whole = decompressChunk(compressor, unitAt(chunk.compressedOffset, unit.storedSize), unit.size);
    return whole.subarray(chunk.unitOffset, chunk.unitOffset + chunk.uncompressedSize);
  };
  const entries = refs.map((ref) => infos.at(ref.index));
  return { info, entries, contents: entries.map(contentOf), units: infos.units };
}

const SMALL = Array.from({ length: 40 }, (_, i) => text(100 + 37 * i, i + 5));
const KEY = cipherFor("secret", "test");

test.each([
  ["batches", { batchSize: 8192 }, 0x7000_00a5],
  ["batches that do not compress", { batchSize: 8192, compressor: "none" as const }, 0x7000_00a5],
  ["encryption", { cipher: KEY }, 0x7000_0125],
  ["both", { batchSize: 8192, cipher: KEY }, 0x7000_01a5],
])(
  "BlobWriter stores chunks so that its compression information finds them, with %s",
  async (_, options, features) => {
    const chunks = [...SMALL, ...CHUNKS, text(10, 99)];
    const { info, contents, units } = await readBack(options, chunks);
    expect(contents.map((content) => hex(sha256(content)))).toEqual(
      chunks.map((chunk) => hex(sha256(chunk))),
    );
    expect(info.features).toBe(features);
    expect(units.length > 0).toBe("batchSize" in options);
  },
);

test("BlobWriter batches small files only, up to the batch's size, and ends a batch before a large one", async () => {
  const sizes = [1000, 1000, 1999, 100, 2500, 30, 40, 2048];
  const chunks = sizes.map((size, i) => noise(size + i));
  const { entries, units } = await readBack({ batchSize: 4096 }, chunks);
  // 2500 and 2048 are at least half a batch; 1000 + 1001 + 2001 fill one but for 94 bytes.
  expect(entries.map(({ flags, unit }) => ((flags & 4) === 0 ? -1 : unit))).toEqual([
    0, 0, 0, 1, -1, 2, 2, -1,
  ]);
  expect(units.map(({ size }) => size)).toEqual([4002, 103, 35 + 46]);
});

test("BlobWriter takes chunks from a dictionary first", async () => {
  const other = { blob: { id: "d".repeat(64) }, uncompressedSize: CHUNKS[1]?.byteLength } as ChunkRef;
  const wanted = hex(sha256(CHUNKS[1] as Uint8Array));
  const dictionary = { find: (digest: Uint8Array) => (hex(digest) === wanted ? other : undefined) };
  const { refs, result } = await write({ dictionary });
  expect(refs[1]).toBe(other);
  expect(result.info?.chunkCount).toBe(CHUNKS.length - 1);
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
    const infos = chunkInfosOf(array);
    expect(infos.length).toBe(header.entries);
    expect(infos.at(-1)?.compressedOffset).toBeLessThan(toc[0]?.compressedSize ?? 0);
    checked++;
  }
  expect(checked).toBe(3);
});
