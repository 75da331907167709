/**
 * The bit sets of RAFS v6: superblock flags, blob features, chunk flags.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";

/** Flags of the extended superblock (u64 on disk; all known bits are in the low word). */
export const SUPERBLOCK_FLAGS = {
  compressorNone: 0x1,
  compressorLz4: 0x2,
  digesterBlake3: 0x4,
  digesterSha256: 0x8,
  /** uid and gid of inodes are meant; without it the reference reports the daemon's own. */
  explicitOwner: 0x10,
  hasXattr: 0x20,
  compressorGzip: 0x40,
  compressorZstd: 0x80,
  /** Every blob carries its chunk digests (`blob.digest`). */
  inlinedDigests: 0x100,
  tarfs: 0x200,
  encryptionNone: 0x0100_0000,
  encryptionXts: 0x0200_0000,
} as const;

/** Six high bits are reserved for compatible additions: readers tolerate them. */
const COMPATIBLE_FLAGS = 0xfc00_0000;
export const KNOWN_SUPERBLOCK_FLAGS =
  (Object.values(SUPERBLOCK_FLAGS).reduce((all, bit) => all | bit, 0) | COMPATIBLE_FLAGS) >>> 0;

export const COMPRESSOR_FLAGS: Readonly<Record<Compressor, number>> = {
  none: SUPERBLOCK_FLAGS.compressorNone,
  lz4_block: SUPERBLOCK_FLAGS.compressorLz4,
  gzip: SUPERBLOCK_FLAGS.compressorGzip,
  zstd: SUPERBLOCK_FLAGS.compressorZstd,
};

export const DIGESTER_FLAGS: Readonly<Record<ChunkDigester, number>> = {
  blake3: SUPERBLOCK_FLAGS.digesterBlake3,
  sha256: SUPERBLOCK_FLAGS.digesterSha256,
};

/** Features of one blob (u32 on disk). */
export const BLOB_FEATURES = {
  /** Uncompressed chunk offsets are multiples of 4096: a must in v6. */
  aligned: 0x1,
  /** The bootstrap is inside the blob (per-layer bootstraps only). */
  inlinedBootstrap: 0x2,
  /** Compression information entries have 24 bytes instead of 16. */
  ciVersion2: 0x4,
  zran: 0x8,
  /** Data and compression information are in different blobs. */
  separate: 0x10,
  /** The blob has a `blob.digest` section. */
  inlinedDigests: 0x20,
  tarfs: 0x40,
  batch: 0x80,
  encrypted: 0x100,
  generatedDictionary: 0x200,
  separatedPrefetch: 0x400,
  external: 0x800,
  /** Our own, of bootstraps that do not leave a node: the blob is an original layer that has a table of contents. */
  pieces: 0x1_0000,
  /** Sections are followed by tar headers. */
  tarHeaders: 0x1000_0000,
  /** A table of contents is at the blob's tail. */
  toc: 0x2000_0000,
  /** Written by a builder that knows tar headers and TOC at all (2.2 and later). */
  capTarToc: 0x4000_0000,
} as const;

/** Within the low 16 bits only 0x0fff is known, and bit 31 must never be stored. Bits 16 to 30 are tolerated. */
export const REFUSED_BLOB_FEATURES = 0x8000_f000;

/** Flags of a chunk record. */
export const CHUNK_FLAGS = {
  compressed: 0x1,
  hole: 0x2,
  encrypted: 0x4,
  batch: 0x8,
  hasCrc: 0x10,
} as const;

/** The one word whose bit is set, or undefined when none or several are. */
export function onlyFlag<T extends string>(flags: number, bits: Readonly<Record<T, number>>): T | undefined {
  const set = (Object.keys(bits) as T[]).filter((name) => (flags & bits[name]) !== 0);
  return set.length === 1 ? set[0] : undefined;
}
