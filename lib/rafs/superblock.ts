/**
 * The two superblocks of a v6 bootstrap: EROFS's own at 1024, and the RAFS extension behind it.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";
import { bytes, struct, u8, u16, u32, u64, u64big } from "../base/struct.ts";

export const SUPERBLOCK_OFFSET = 1024;
export const EXTENSION_OFFSET = 1152;
export const EROFS_MAGIC = 0xe0f5_e1e2;
/** At offset 0 of a v5 bootstrap. */
export const RAFS_V5_MAGIC = 0x5241_4653;
/** Of tables, and of everything else unless files lie inside plain tars. */
export const BLOCK_SIZE = 4096;
/** Of tarfs: tars align files to this. */
export const TAR_BLOCK_SIZE = 512;

/** The only compatible feature the reference sets, and what marks RAFS v6. */
export const COMPAT_RAFS_V6 = 0x4000_0000;
/** Chunked files and a device table: exactly these. */
export const INCOMPAT = 0x4 | 0x8;
/** `devt_slotoff`: slots of 128 bytes from the start of the image. */
export const SLOT_OFFSET = 11;

/** Linux `struct erofs_super_block`. */
export const superblock = struct(128, {
  magic: u32(0),
  checksum: u32(4),
  compat: u32(8),
  blockBits: u8(12),
  extraSlots: u8(13),
  rootNid: u16(14),
  inodes: u64(16),
  buildTime: u64(24),
  buildTimeNs: u32(32),
  blocks: u32(36),
  metaBlock: u32(40),
  xattrBlock: u32(44),
  uuid: bytes(48, 16),
  volume: bytes(64, 16),
  incompat: u32(80),
  union: u16(84),
  devices: u16(86),
  slotOffset: u16(88),
  directoryBits: u8(90),
  /** Everything later kernels gave a meaning to. */
  rest: bytes(91, 37),
});

/** `RafsV6SuperBlockExt` of the reference. */
export const extension = struct(256, {
  flags: u64big(0),
  blobTableOffset: u64(8),
  blobTableSize: u32(16),
  chunkSize: u32(20),
  chunkTableOffset: u64(24),
  chunkTableSize: u64(32),
  prefetchTableOffset: u64(40),
  prefetchTableSize: u32(48),
});

export const MIN_CHUNK_SIZE = 4096;
export const MAX_CHUNK_SIZE = 2 ** 24;

/** Where a table lies. */
export interface Region {
  readonly offset: number;
  readonly size: number;
}

/** The superblocks' facts in one place, checked. */
export interface Superblock {
  /** Names created, hard links counted each time. */
  readonly inodes: number;
  /** Sum of the devices' blocks. */
  readonly blocks: number;
  readonly rootNid: number;
  /** Bytes: 4096, or 512 in tarfs. Of directories, chunk addresses and devices; tables are aligned to 4096 always. */
  readonly blockSize: number;
  /** The blobs are plain tars, and files lie where they are in them. */
  readonly tarfs: boolean;
  /** Byte offset that nids count from. */
  readonly metaOffset: number;
  readonly devices: number;
  /** `SUPERBLOCK_FLAGS`. */
  readonly flags: number;
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  readonly chunkSize: number;
  readonly blobTable: Region;
  readonly chunkTable: Region;
  readonly prefetchTable: Region;
}
