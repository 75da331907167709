/**
 * Compression information ("blob.meta"): for each stored chunk, in order, where it lies in the blob and in the
 * uncompressed address space; behind the array a header of 4096 bytes. Version 1: 16 bytes an entry.
 *
 * Word 0 holds the uncompressed offset in place (bits 12 to 43) around the low 20 bits of size - 1 (bits 44 to 63) and
 * its high 4 bits (8 to 11). Word 1 holds the compressed offset (bits 0 to 39), the high 4 bits of compressed size - 1
 * (40 to 43) and its low 20 bits (44 to 63).
 *
 * @module
 */
import { COMPRESSORS, type Compressor } from "../base/compression.ts";
import { corrupt } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { struct, u32, u64, viewOf } from "../base/struct.ts";

/** Bytes of one entry. */
export const ENTRY_SIZE = 16;
const MAGIC = 0xb10b_b10b;
const PAGE = 4096;
const TWO_20 = 2 ** 20;

const MAX_CHUNK_BYTES = 2 ** 24;
const MAX_COMPRESSED_OFFSET = 2 ** 40;
const MAX_UNCOMPRESSED_OFFSET = 2 ** 44;

/** A chunk is stored compressed if and only if its two sizes differ. */
export interface ChunkInfo {
  /** Below 2^40. */
  readonly compressedOffset: number;
  /** 1 to 2^24. */
  readonly compressedSize: number;
  /** Multiple of 4096 below 2^44. */
  readonly uncompressedOffset: number;
  /** 1 to 2^24. */
  readonly uncompressedSize: number;
}

function assertRepresentable(chunk: ChunkInfo): void {
  const size = (value: number): boolean => Number.isInteger(value) && value >= 1 && value <= MAX_CHUNK_BYTES;
  const offset = (value: number, end: number): boolean =>
    Number.isSafeInteger(value) && value >= 0 && value < end;
  const ok =
    size(chunk.compressedSize) &&
    size(chunk.uncompressedSize) &&
    offset(chunk.compressedOffset, MAX_COMPRESSED_OFFSET) &&
    offset(chunk.uncompressedOffset, MAX_UNCOMPRESSED_OFFSET) &&
    chunk.uncompressedOffset % PAGE === 0;
  if (ok) return;
  throw new RangeError(
    `Cannot encode a chunk: ${chunk.uncompressedSize} bytes at ${chunk.uncompressedOffset}, ` +
      `stored as ${chunk.compressedSize} at ${chunk.compressedOffset}, do not fit an entry`,
  );
}

export function writeChunkInfo(view: DataView, at: number, chunk: ChunkInfo): void {
  assertRepresentable(chunk);
  const size = chunk.uncompressedSize - 1;
  const stored = chunk.compressedSize - 1;
  const high = Math.floor(chunk.uncompressedOffset / 2 ** 32);
  view.setUint32(at, (chunk.uncompressedOffset % 2 ** 32) + Math.floor(size / TWO_20) * 0x100, true);
  view.setUint32(at + 4, high + (size % TWO_20) * 0x1000, true);
  view.setUint32(at + 8, chunk.compressedOffset % 2 ** 32, true);
  view.setUint32(
    at + 12,
    Math.floor(chunk.compressedOffset / 2 ** 32) +
      Math.floor(stored / TWO_20) * 0x100 +
      (stored % TWO_20) * 0x1000,
    true,
  );
}

export function readChunkInfo(view: DataView, at: number): ChunkInfo {
  const a = view.getUint32(at, true);
  const b = view.getUint32(at + 4, true);
  const c = view.getUint32(at + 8, true);
  const d = view.getUint32(at + 12, true);
  return {
    uncompressedOffset: (b & 0xfff) * 2 ** 32 + ((a & 0xffff_f000) >>> 0),
    uncompressedSize: ((a >>> 8) & 0xf) * TWO_20 + (b >>> 12) + 1,
    compressedOffset: (d & 0xff) * 2 ** 32 + c,
    compressedSize: ((d >>> 8) & 0xf) * TWO_20 + (d >>> 12) + 1,
  };
}

export function encodeChunkInfos(chunks: readonly ChunkInfo[]): Uint8Array {
  const out = new Uint8Array(chunks.length * ENTRY_SIZE);
  const view = viewOf(out);
  for (const [index, chunk] of chunks.entries()) writeChunkInfo(view, index * ENTRY_SIZE, chunk);
  return out;
}

/** `BlobCompressionContextHeader` of the reference. */
const header = struct(PAGE, {
  magic: u32(0),
  features: u32(4),
  compressor: u32(8),
  entries: u32(12),
  offset: u64(16),
  compressedSize: u64(24),
  uncompressedSize: u64(32),
  contextOffset: u64(40),
  contextSize: u64(48),
  contexts: u32(56),
  magicAgain: u32(4092),
});

export const HEADER_SIZE = PAGE;

/** What the header says about the array before it. */
export interface ChunkInfoHeader {
  /** `BLOB_FEATURES` */
  readonly features: number;
  /** Of the array, not of the chunks. */
  readonly compressor: Compressor;
  readonly entries: number;
  /** Where the stored array starts in the blob. */
  readonly offset: number;
  readonly compressedSize: number;
  /** Entries with the units behind them. */
  readonly uncompressedSize: number;
  /** Where records of units begin behind the entries, their bytes with dictionaries, and how many there are. */
  readonly contextOffset?: number;
  readonly contextSize?: number;
  readonly contexts?: number;
}

export function encodeChunkInfoHeader(values: ChunkInfoHeader): Uint8Array {
  return header.encode({
    ...values,
    compressor: COMPRESSORS[values.compressor],
    magic: MAGIC,
    magicAgain: MAGIC,
  });
}

export function decodeChunkInfoHeader(bytes: Uint8Array): Required<ChunkInfoHeader> {
  if (bytes.byteLength !== HEADER_SIZE)
    throw corrupt(`Cannot read the compression information header: it has ${bytes.byteLength} bytes`);
  const { magic, magicAgain, compressor: code, ...rest } = header.read(viewOf(bytes));
  if (magic !== MAGIC || magicAgain !== MAGIC)
    throw corrupt("Cannot read the compression information header: its magic number is missing");
  const compressor = (Object.keys(COMPRESSORS) as Compressor[]).find((name) => COMPRESSORS[name] === code);
  if (compressor === undefined)
    throw corrupt(`Cannot read the compression information header: compressor ${code} is not known`);
  return { ...rest, compressor };
}

/** The form in nydusd's cache directory and in bootstrap layers: the array padded to a page, then the header. */
export function chunkInfoFile(array: Uint8Array, encodedHeader: Uint8Array): Uint8Array {
  const out = new Uint8Array(alignUp(array.byteLength, PAGE) + HEADER_SIZE);
  out.set(array);
  out.set(encodedHeader, out.byteLength - HEADER_SIZE);
  return out;
}
