/**
 * Finds inodes and their data in a bootstrap. Every access is checked against the file, so that a damaged image gives
 * a `corrupt` error and nothing else.
 *
 * @module
 */
import type { NydusError } from "../base/error.ts";
import {
  compactInode,
  EXTENDED,
  extendedInode,
  inodeSize,
  type Kind,
  kindOf,
  LAYOUT,
  layoutOf,
  NID_UNIT,
} from "./inode.ts";
import type { Region, Superblock } from "./superblock.ts";
import { unreadable } from "./superblock-reader.ts";
import { xattrAreaSize } from "./xattr.ts";

export interface RawInode {
  readonly nid: number;
  /** Byte offset of the record. */
  readonly at: number;
  /** That of the image. */
  readonly blockSize: number;
  readonly extended: boolean;
  readonly layout: number;
  /** Permissions and type. */
  readonly mode: number;
  readonly kind: Kind;
  readonly size: number;
  readonly union: number;
  /** Bytes of the record and its xattrs: what the tail data or the chunk indexes follow. */
  readonly headSize: number;
}

const C = compactInode.fields;
const E = extendedInode.fields;

function badInode(nid: number, state: string): NydusError {
  return unreadable(`inode ${nid} ${state}`);
}

/** @throws corrupt */
export function locateInode(view: DataView, superblock: Superblock, nid: number): RawInode {
  const at = superblock.metaOffset + nid * NID_UNIT;
  if (!Number.isSafeInteger(at) || nid < 0 || at + compactInode.size > view.byteLength)
    throw badInode(nid, "lies outside the file");
  const format = C.format.read(view, at);
  if (format > 0xf) throw badInode(nid, `has unknown format 0x${format.toString(16)}`);
  const extended = (format & 1) !== 0;
  const mode = C.mode.read(view, at);
  const kind = kindOf(mode);
  if (kind === undefined) throw badInode(nid, `has unknown type 0${mode.toString(8)}`);
  const headSize = inodeSize(format) + xattrAreaSize(C.xattrCount.read(view, at));
  if (at + headSize > view.byteLength) throw badInode(nid, "ends past the end of the file");
  return {
    nid,
    at,
    blockSize: superblock.blockSize,
    extended,
    layout: layoutOf(format),
    mode,
    kind,
    size: extended ? E.size.read(view, at) : C.size.read(view, at),
    union: C.union.read(view, at),
    headSize,
  };
}

export function linkCount(view: DataView, inode: RawInode): number {
  return inode.extended ? E.nlink.read(view, inode.at) : C.nlink.read(view, inode.at);
}

export function hasXattrs(inode: RawInode): boolean {
  return inode.headSize !== inodeSize(inode.extended ? EXTENDED : 0);
}

/** Block `k` of a directory's or symlink's data, as far as the data reaches. @throws corrupt */
export function dataBlock(view: DataView, inode: RawInode, k: number): Region {
  const { blockSize } = inode;
  const start = k * blockSize;
  const size = Math.min(blockSize, inode.size - start);
  const inline = inode.layout === LAYOUT.inline && start + size === inode.size;
  const offset = inline ? inode.at + inode.headSize : inode.union * blockSize + start;
  if (inode.layout !== LAYOUT.inline && inode.layout !== LAYOUT.plain)
    throw unreadable(`inode ${inode.nid} keeps its data in an unknown layout ${inode.layout}`);
  if (inline && Math.floor(offset / blockSize) !== Math.floor((offset + size - 1) / blockSize))
    throw unreadable(`inode ${inode.nid} has inline data across a block boundary`);
  if (size <= 0 || offset + size > view.byteLength)
    throw unreadable(`inode ${inode.nid} has data past the end of the file`);
  return { offset, size };
}

/** Whether a link's target lies all behind the inode, which does not say so: see `tarfs-links.ts`. */
export function isMisplaced(inode: RawInode, { tarfs, blockSize }: Superblock): boolean {
  return tarfs && inode.kind === "symlink" && inode.layout === LAYOUT.inline && inode.size > blockSize;
}

export function blockCount({ size, blockSize }: RawInode): number {
  return Math.ceil(size / blockSize);
}

/** Where the chunk indexes of a regular file are; `size` bytes hold one for each chunk. @throws corrupt */
export function chunkIndexes(view: DataView, inode: RawInode, chunkSize: number): Region {
  const offset = Math.ceil((inode.at + inode.headSize) / 8) * 8;
  const size = Math.ceil(inode.size / chunkSize) * 8;
  if (inode.layout !== LAYOUT.chunked) throw unreadable(`file ${inode.nid} is not made of chunks`);
  if (offset + size > view.byteLength)
    throw unreadable(`file ${inode.nid} has chunk indexes past the end of the file`);
  return { offset, size };
}
