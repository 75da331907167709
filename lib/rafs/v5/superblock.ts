/**
 * The superblock of a v5 bootstrap: 8192 bytes at its start, which name all other tables.
 *
 * @module
 */
import type { Compressor } from "../../base/compression.ts";
import type { ChunkDigester } from "../../base/digest.ts";
import { struct, u32, u64, u64big } from "../../base/struct.ts";
import type { Region } from "../superblock.ts";

export const V5_VERSION = 0x500;
export const SUPERBLOCK_SIZE = 8192;
/** Every region and record starts at a multiple of this, and is padded to one. */
export const ALIGNMENT = 8;
/** Offsets in the inode table count units of 8 bytes in 32 bits; the reference stops at 2 GiB. */
export const MAX_LENGTH = 0x8000_0000;

/** `RafsV5SuperBlock` of the reference. */
export const superblock = struct(SUPERBLOCK_SIZE, {
  magic: u32(0),
  version: u32(4),
  size: u32(8),
  /** Of file data: the reference calls it block size. */
  chunkSize: u32(12),
  flags: u64big(16),
  /** Hard links counted once. */
  inodes: u64(24),
  inodeTableOffset: u64(32),
  prefetchTableOffset: u64(40),
  blobTableOffset: u64(48),
  inodeTableEntries: u32(56),
  prefetchTableEntries: u32(60),
  /** Bytes, padding included. */
  blobTableSize: u32(64),
  extendedTableEntries: u32(68),
  extendedTableOffset: u64(72),
});

/** The superblock's facts, checked. */
export interface Superblock {
  readonly inodes: number;
  /** `SUPERBLOCK_FLAGS`. */
  readonly flags: number;
  readonly compressor: Compressor;
  /** Of chunks and of inodes. */
  readonly digester: ChunkDigester;
  readonly chunkSize: number;
  /** One u32 an inode number: the record's offset in units of 8 bytes. */
  readonly inodeTable: Region;
  /** Inode numbers whose data is wanted first. */
  readonly prefetchTable: Region;
  readonly blobTable: Region;
  readonly extendedTable: Region;
}
