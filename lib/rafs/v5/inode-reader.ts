/**
 * Finds inode records and what follows them. Every access is checked against the file, so that a damaged image gives a
 * `corrupt` error and nothing else.
 *
 * @module
 */
import { type ByteString, byteString, printable } from "../../base/byte-string.ts";
import type { NydusError } from "../../base/error.ts";
import { alignUp } from "../../base/math.ts";
import { chunkRecord } from "../chunk-record.ts";
import { type Kind, kindOf } from "../inode.ts";
import type { Region } from "../superblock.ts";
import { unreadable } from "../superblock-reader.ts";
import { INODE_FLAGS, inodeRecord } from "./inode.ts";
import { ALIGNMENT, SUPERBLOCK_SIZE, type Superblock } from "./superblock.ts";

/** A record with the places of its parts. */
export interface RawInode {
  /** Position in the inode table, from 1: what names, directories and hard links refer to. */
  readonly number: number;
  /** Byte offset of the record. */
  readonly at: number;
  /** Permissions and type. */
  readonly mode: number;
  readonly kind: Kind;
  readonly flags: number;
  readonly childIndex: number;
  readonly childCount: number;
  readonly name: Region;
  /** Empty for all but symlinks. */
  readonly target: Region;
  /** Pairs without the size in front; empty when there are none. */
  readonly xattrs: Region;
  /** Chunk records of a regular file. */
  readonly chunks: Region;
  /** Where the record with all its parts ends. */
  readonly end: number;
}

const I = inodeRecord.fields;

function badInode(number: number, state: string): NydusError {
  return unreadable(`inode ${number} ${state}`);
}

export function inodeCount({ inodeTable }: Superblock): number {
  return inodeTable.size / 4;
}

/** @throws corrupt */
export function locateInode(view: DataView, superblock: Superblock, number: number): RawInode {
  if (!Number.isSafeInteger(number) || number < 1 || number > inodeCount(superblock))
    throw badInode(number, "is not in the inode table");
  const at = view.getUint32(superblock.inodeTable.offset + 4 * (number - 1), true) * ALIGNMENT;
  if (at < SUPERBLOCK_SIZE || at + inodeRecord.size > view.byteLength)
    throw badInode(number, "lies outside the file");
  const mode = I.mode.read(view, at);
  const kind = mode > 0xffff ? undefined : kindOf(mode);
  if (kind === undefined) throw badInode(number, `has unknown type 0${mode.toString(8)}`);
  const flags = I.flags.read(view, at);
  const name = { offset: at + inodeRecord.size, size: I.nameSize.read(view, at) };
  const target = after(name, kind === "symlink" ? I.targetSize.read(view, at) : 0);
  const head = (flags & INODE_FLAGS.hasXattr) !== 0 ? 8 : 0;
  const area = after(target, head);
  if (area.offset + head > view.byteLength) throw badInode(number, "ends past the end of the file");
  const xattrs = { offset: area.offset + head, size: head === 0 ? 0 : xattrSize(view, area.offset, number) };
  const childCount = I.childCount.read(view, at);
  const chunks = after(xattrs, kind === "file" ? childCount * chunkRecord.size : 0);
  const end = chunks.offset + chunks.size;
  if (end > view.byteLength) throw badInode(number, "ends past the end of the file");
  const childIndex = I.childIndex.read(view, at);
  return { number, at, mode, kind, flags, childIndex, childCount, name, target, xattrs, chunks, end };
}

/** The part that follows a padded one. */
function after({ offset, size }: Region, next: number): Region {
  return { offset: alignUp(offset + size, ALIGNMENT), size: next };
}

function xattrSize(view: DataView, at: number, number: number): number {
  const low = view.getUint32(at, true);
  if (view.getUint32(at + 4, true) !== 0 || low > view.byteLength)
    throw badInode(number, "has xattrs past the end of the file");
  return low;
}

/** Keys with a NUL and their values, each with its size in front. @throws corrupt */
export function readXattrs(view: DataView, { offset, size }: Region): Map<ByteString, Uint8Array> {
  const found = new Map<ByteString, Uint8Array>();
  const end = offset + size;
  for (let at = offset; at < end; ) {
    const start = at + 4;
    const next = start > end ? end + 1 : start + view.getUint32(at, true);
    if (next > end) throw unreadable("an xattr ends past its area");
    const pair = new Uint8Array(view.buffer, view.byteOffset + start, next - start);
    const keySize = pair.indexOf(0);
    if (keySize < 1) throw unreadable("an xattr has an impossible key");
    const key = byteString(pair.subarray(0, keySize));
    if (found.has(key)) throw unreadable(`xattr "${printable(key)}" is there twice`);
    found.set(key, pair.subarray(keySize + 1));
    at = next;
  }
  return found;
}
