/**
 * A v6 bootstrap opened for reading: superblock facts, blobs, and the file system inside. Nothing is read before it
 * is asked for, and every access is checked. Opening proves the tables only: `checkBootstrap` proves the whole.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { viewOf } from "../base/struct.ts";
import type { BlobInfo } from "./blob-table.ts";
import { readBlobs } from "./blob-table-reader.ts";
import { type Complain, refuse } from "./broken-rule.ts";
import { type DirectoryEntry, lookupName, readDirectory } from "./directory-reader.ts";
import { chunkIndex, compactInode, extendedInode, inodeSize } from "./inode.ts";
import {
  blockCount,
  chunkIndexes,
  dataBlock,
  isMisplaced,
  locateInode,
  type RawInode,
} from "./inode-reader.ts";
import type { Superblock } from "./superblock.ts";
import { readSuperblock, unreadable } from "./superblock-reader.ts";
import { readXattrs } from "./xattr.ts";

export type { DirectoryEntry } from "./directory-reader.ts";

/** What stat(2) shows. */
export interface InodeAttributes {
  readonly nid: number;
  /** Permissions and type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Whole seconds since 1970; negative before. */
  readonly mtime: number;
  readonly mtimeNs: number;
  readonly nlink: number;
  /** Linux's 32-bit encoding; 0 for all but devices. */
  readonly rdev: number;
}

/** File bytes in a blob's uncompressed address space. */
export interface Extent {
  /** 0-based device: an index into `Bootstrap.blobs`. */
  readonly blob: number;
  readonly offset: number;
  readonly length: number;
}

const C = compactInode.fields;
const E = extendedInode.fields;
const X = chunkIndex.fields;

export class Bootstrap {
  readonly version = 6;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly superblock: Superblock;
  /** In the order of the EROFS devices. */
  readonly blobs: readonly BlobInfo[];
  /** Where each device begins in one flat address space, in blocks. */
  readonly mappedBlocks: readonly number[];
  readonly rootNid: number;

  /** @param complain what is done about broken rules of superblocks and tables */
  constructor(bytes: Uint8Array, complain: Complain = refuse) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.superblock = readSuperblock(this.view, complain);
    const { blobs, mappedBlocks } = readBlobs(this.view, this.superblock, complain);
    this.blobs = blobs;
    this.mappedBlocks = mappedBlocks;
    this.rootNid = this.superblock.rootNid;
  }

  /** The inode as it is stored. @throws corrupt */
  raw(nid: number): RawInode {
    return locateInode(this.view, this.superblock, nid);
  }

  inode(nid: number): InodeAttributes {
    const { at, extended, mode, kind, size, union } = this.raw(nid);
    const device = kind === "char" || kind === "block";
    const owner = extended ? E : C;
    return {
      nid,
      mode,
      uid: owner.uid.read(this.view, at),
      gid: owner.gid.read(this.view, at),
      size,
      mtime: extended ? E.mtime.read(this.view, at) : 0,
      mtimeNs: extended ? E.mtimeNs.read(this.view, at) : 0,
      nlink: owner.nlink.read(this.view, at),
      rdev: device && extended ? union : 0,
    };
  }

  lookup(nid: number, name: ByteString): number | undefined {
    return lookupName(this.view, this.#directory(nid), name);
  }

  /** In byte order of names, `.` and `..` included. */
  readdir(nid: number): Iterable<DirectoryEntry> {
    return readDirectory(this.view, this.#directory(nid));
  }

  readlink(nid: number): Uint8Array {
    const inode = this.raw(nid);
    if (inode.kind !== "symlink") throw unreadable(`inode ${nid} is not a symbolic link`);
    if (isMisplaced(inode, this.superblock)) {
      const start = inode.at + inode.headSize;
      const target = this.bytes.subarray(start, start + inode.size);
      if (target.byteLength === inode.size) return target;
      throw unreadable(`link ${nid} has a target past the end of the file`);
    }
    const parts: Uint8Array[] = [];
    for (let k = 0; k < blockCount(inode); k++) {
      const { offset, size } = dataBlock(this.view, inode, k);
      parts.push(this.bytes.subarray(offset, offset + size));
    }
    return Buffer.concat(parts);
  }

  /** Values are views of the bootstrap. */
  xattrs(nid: number): Map<ByteString, Uint8Array> {
    const { at, headSize, extended } = this.raw(nid);
    const recordSize = inodeSize(extended ? 1 : 0);
    return readXattrs(this.view, { offset: at + recordSize, size: headSize - recordSize });
  }

  /** Where the file's bytes [offset, offset + length) are, as far as the file reaches; neighbours are joined. */
  extents(nid: number, offset: number, length: number): Extent[] {
    const inode = this.raw(nid);
    const { chunkSize, blockSize } = this.superblock;
    const indexes = chunkIndexes(this.view, inode, chunkSize);
    const end = Math.min(offset + length, inode.size);
    const found: { blob: number; offset: number; length: number }[] = [];
    for (let at = offset; at < end; ) {
      const chunk = Math.floor(at / chunkSize);
      const stop = Math.min(end, (chunk + 1) * chunkSize);
      const record = indexes.offset + chunk * chunkIndex.size;
      const blob = (X.device.read(this.view, record) & 0xff) - 1;
      if (blob < 0 || blob >= this.blobs.length)
        throw unreadable(`chunk ${chunk} of file ${nid} is in no blob`);
      const start = X.block.read(this.view, record) * blockSize + (at - chunk * chunkSize);
      const last = found.at(-1);
      if (last !== undefined && last.blob === blob && last.offset + last.length === start)
        last.length += stop - at;
      else found.push({ blob, offset: start, length: stop - at });
      at = stop;
    }
    return found;
  }

  #directory(nid: number): RawInode {
    const inode = this.raw(nid);
    if (inode.kind !== "directory") throw unreadable(`inode ${nid} is not a directory`);
    return inode;
  }
}

/**
 * Opens a bootstrap that is all in memory.
 *
 * @throws corrupt when the superblocks or tables make no sense, unsupported for kinds of image we do not serve
 */
export function openBootstrap(bytes: Uint8Array): Bootstrap {
  return new Bootstrap(bytes);
}
