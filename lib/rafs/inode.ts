/**
 * EROFS inodes and the chunk indexes behind regular files.
 *
 * @module
 */
import { type Field, struct, u16, u32, u64 } from "../base/struct.ts";

/** Signed seconds. Past 2^53 the value is rounded: such a time is nonsense, but not dangerous. */
export const seconds = (offset: number): Field<number> => ({
  offset,
  size: 8,
  read: (view, at) => view.getInt32(at + offset + 4, true) * 2 ** 32 + view.getUint32(at + offset, true),
  write(view, at, value) {
    const high = Math.floor(value / 2 ** 32);
    view.setInt32(at + offset + 4, high, true);
    view.setUint32(at + offset, value - high * 2 ** 32, true);
  },
});

/** Linux `struct erofs_inode_compact`: no time, no 32-bit owner. */
export const compactInode = struct(32, {
  format: u16(0),
  xattrCount: u16(2),
  mode: u16(4),
  nlink: u16(6),
  size: u32(8),
  union: u32(16),
  ino: u32(20),
  uid: u16(24),
  gid: u16(26),
});

/** Linux `struct erofs_inode_extended`. */
export const extendedInode = struct(64, {
  format: u16(0),
  xattrCount: u16(2),
  mode: u16(4),
  size: u64(8),
  /** Start block (directories, symlinks), chunk format (regular files) or device number. */
  union: u32(16),
  ino: u32(20),
  uid: u32(24),
  gid: u32(28),
  mtime: seconds(32),
  mtimeNs: u32(40),
  nlink: u32(44),
});

/** A nid counts units of 32 bytes from the metadata base. */
export const NID_UNIT = 32;

/** Bit 0 of `format`. */
export const EXTENDED = 1;
/** Bits 1 to 3 of `format`; all higher ones must be 0. */
export const LAYOUT = { plain: 0, inline: 2, chunked: 4 } as const;

export function layoutOf(format: number): number {
  return (format >> 1) & 7;
}

export function inodeSize(format: number): number {
  return (format & EXTENDED) === 0 ? compactInode.size : extendedInode.size;
}

/** Chunk format (low half of `union`): log2 of blocks a chunk, and that 8-byte indexes follow. */
export const CHUNK_BITS = 0x1f;
export const CHUNK_INDEXES = 0x20;

/** Linux `struct erofs_inode_chunk_index`, as the reference packs the chunk's ordinal into its free bits. */
export const chunkIndex = struct(8, {
  /** Low 16 bits of the chunk's ordinal. */
  ordinalLow: u16(0),
  /** Low byte: blob index + 1. High byte: bits 16 to 23 of the ordinal. */
  device: u16(2),
  /** Uncompressed offset in the blob, in blocks. */
  block: u32(4),
});

const FILE_TYPE = 0o170000;
export const TYPE_BITS = {
  fifo: 0o010000,
  char: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const;
export type Kind = keyof typeof TYPE_BITS;

const KINDS = new Map<number, Kind>(
  (Object.keys(TYPE_BITS) as Kind[]).map((kind) => [TYPE_BITS[kind], kind]),
);

export function kindOf(mode: number): Kind | undefined {
  return KINDS.get(mode & FILE_TYPE);
}

/** Linux `new_encode_dev`: 12 bits of major, 20 of minor. */
export function encodeDevice(major: number, minor: number): number {
  return (((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0) as number;
}

export function decodeDevice(rdev: number): { major: number; minor: number } {
  return { major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}
