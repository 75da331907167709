/**
 * The blob table: one 256-byte entry a data blob, in the order of the EROFS devices.
 *
 * @module
 */
import { byteString, byteStringOf, bytesOf } from "../base/byte-string.ts";
import { COMPRESSORS, type Compressor } from "../base/compression.ts";
import { CHUNK_DIGESTERS, type ChunkDigester } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { bytes, struct, u32, u64, viewOf } from "../base/struct.ts";
import type { Cipher } from "./chunk-map.ts";

/** What a bootstrap says about one data blob. */
export interface BlobInfo {
  /** Hex digest of the stored blob; 64 times "x" in a bootstrap that is inlined in the blob itself. */
  readonly id: string;
  /** Position in the table, 0-based; the EROFS device id is one more. Whoever writes a bootstrap assigns it anew. */
  readonly index: number;
  readonly chunkCount: number;
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  /** `BLOB_FEATURES`. */
  readonly features: number;
  /** Bytes of the stored blob; of what precedes `image.boot` when the bootstrap is inlined. */
  readonly compressedSize: number;
  /** Bytes of the uncompressed address space: a multiple of 4096. */
  readonly uncompressedSize: number;
  /** Bytes of the table of contents with its tar header; 0 = not recorded. */
  readonly tocSize: number;
  /** SHA-256 over the same; zeros = not recorded. */
  readonly tocDigest: Uint8Array;
  readonly ciCompressor: Compressor;
  /** Where the stored compression information starts in the blob. */
  readonly ciOffset: number;
  readonly ciCompressedSize: number;
  readonly ciUncompressedSize: number;
  /** Of the blob that holds the metadata when it is a separate one; zeros and 0 otherwise. */
  readonly metaDigest: Uint8Array;
  readonly metaSize: number;
  /** Of encrypted blobs. It stands in the fields of the metadata blob, which such a blob cannot have. */
  readonly cipher?: Cipher;
}

/** `RafsV6Blob` of the reference. */
export const blobEntry = struct(256, {
  id: bytes(0, 64),
  index: u32(64),
  chunkSize: u32(68),
  chunkCount: u32(72),
  compressor: u32(76),
  digester: u32(80),
  features: u32(84),
  compressedSize: u64(88),
  uncompressedSize: u64(96),
  tocSize: u32(104),
  ciCompressor: u32(108),
  ciOffset: u64(112),
  ciCompressedSize: u64(120),
  ciUncompressedSize: u64(128),
  tocDigest: bytes(136, 32),
  metaDigest: bytes(168, 32),
  metaSize: bytes(200, 8),
  cipherIv: bytes(208, 8),
  cipher: u32(216),
});

/** The chunk index has 24 bits, and its highest value is not used. */
export const MAX_CHUNKS = 2 ** 24;
export const MAX_COMPRESSED_SIZE = 2 ** 40;
export const MAX_UNCOMPRESSED_SIZE = 2 ** 44;
/** Device ids have 8 bits and 0 is the bootstrap itself. */
export const MAX_BLOBS = 254;

function nameOf<T extends string>(values: Readonly<Record<T, number>>, value: number, what: string): T {
  const found = (Object.keys(values) as T[]).find((name) => values[name] === value);
  if (found !== undefined) return found;
  throw corrupt(`Cannot read the blob table: ${what} ${value} is not known`);
}

/** A bootstrap inside a blob cannot know the blob's digest: 64 times "x" stands for it. */
export function isPlaceholder(id: string): boolean {
  return /^x+$/.test(id);
}

/** A blob id field: text up to the first NUL. */
export function idText(field: Uint8Array): string {
  return byteString(field).replace(/\0+$/, "");
}

/** Numbers are those on disk; the reference knows two more that images cannot use. */
const CIPHER = { none: 0, aesXts: 1 } as const;
const KEY_SIZE = 32;

/** Decodes; judging the values is `checkEntry`'s part. @throws corrupt, unsupported */
export function readBlobEntry(view: DataView, at: number): BlobInfo & { chunkSize: number } {
  const { cipherIv, cipher, metaDigest, metaSize, ...record } = blobEntry.read(view, at);
  if (cipher !== CIPHER.none && cipher !== CIPHER.aesXts)
    throw corrupt(`Cannot read the blob table: cipher ${cipher} is not known`);
  const encrypted = cipher === CIPHER.aesXts;
  return {
    ...record,
    id: idText(record.id),
    compressor: nameOf(COMPRESSORS, record.compressor, "compressor"),
    digester: nameOf(CHUNK_DIGESTERS, record.digester, "digester"),
    ciCompressor: nameOf(COMPRESSORS, record.ciCompressor, "compressor"),
    metaDigest: encrypted ? new Uint8Array(KEY_SIZE) : metaDigest,
    metaSize: encrypted ? 0 : u64(0).read(viewOf(metaSize), 0),
    ...(encrypted ? { cipher: { key: metaDigest, iv: Buffer.concat([metaSize, cipherIv]) } } : {}),
  };
}

export function writeBlobEntry(view: DataView, at: number, blob: BlobInfo, chunkSize: number): void {
  const { cipher, metaDigest, metaSize } = blob;
  const plainSize = new Uint8Array(8);
  u64(0).write(viewOf(plainSize), 0, metaSize);
  blobEntry.write(view, at, {
    ...blob,
    chunkSize,
    id: bytesOf(byteStringOf(blob.id)),
    compressor: COMPRESSORS[blob.compressor],
    digester: CHUNK_DIGESTERS[blob.digester],
    ciCompressor: COMPRESSORS[blob.ciCompressor],
    metaDigest: cipher === undefined ? metaDigest : cipher.key,
    metaSize: cipher === undefined ? plainSize : cipher.iv.subarray(0, 8),
    cipherIv: cipher === undefined ? new Uint8Array(8) : cipher.iv.subarray(8),
    cipher: cipher === undefined ? CIPHER.none : CIPHER.aesXts,
  });
}
