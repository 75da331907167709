/**
 * Records of the chunk table: where each distinct chunk lies, and its digest.
 *
 * @module
 */
import { bytes, struct, u32, u64 } from "../base/struct.ts";

/** Of chunks that a bootstrap tells no digest of. Compared by identity; no such chunk may be written. */
export const UNKNOWN_DIGEST: Uint8Array = new Uint8Array(32);

/** `RafsV5ChunkInfo` of the reference, which v6 took over. */
export const chunkRecord = struct(80, {
  digest: bytes(0, 32),
  /** 0-based entry of the blob table. */
  blob: u32(32),
  flags: u32(36),
  compressedSize: u32(40),
  uncompressedSize: u32(44),
  compressedOffset: u64(48),
  uncompressedOffset: u64(56),
  /** Where the chunk lies in one of the files that use it. */
  fileOffset: u64(64),
  /** Ordinal in the blob: its entry of the compression information. */
  index: u32(72),
  /** CRC-32C of the uncompressed chunk; 0 = absent. */
  crc: u32(76),
});
