/**
 * A v5 bootstrap opened for reading, with the face of the v6 reader: superblock facts, blobs, and the file system
 * inside. Inode numbers take the place of nids; the names of a hard link all have the number of the first one.
 *
 * File data is in the blobs' local address spaces (`local-space.ts`). Nothing is read before it is asked for, and every
 * access is checked. Opening proves the tables only: `checkV5` proves the whole.
 *
 * @module
 */
import { type ByteString, byteString, byteStringOf } from "../../base/byte-string.ts";
import { viewOf } from "../../base/struct.ts";
import type { Extent, InodeAttributes } from "../bootstrap.ts";
import { type Complain, refuse } from "../broken-rule.ts";
import { chunkRecord } from "../chunk-record.ts";
import type { DirectoryEntry } from "../directory-reader.ts";
import type { Region } from "../superblock.ts";
import { unreadable } from "../superblock-reader.ts";
import { canStoreXattr } from "../xattr.ts";
import { readBlobs, type V5Blob } from "./blob-table.ts";
import { inodeRecord, ROOT_INO } from "./inode.ts";
import { locateInode, type RawInode, readXattrs } from "./inode-reader.ts";
import { localOffset } from "./local-space.ts";
import type { Superblock } from "./superblock.ts";
import { readSuperblock } from "./superblock-reader.ts";

const I = inodeRecord.fields;
const R = chunkRecord.fields;
const DOT = byteStringOf(".");
const DOT_DOT = byteStringOf("..");

export class V5Bootstrap {
  readonly version = 5;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly superblock: Superblock;
  readonly blobs: readonly V5Blob[];
  readonly rootNid = ROOT_INO;

  /** @param complain what is done about broken rules of superblock and blob tables */
  constructor(bytes: Uint8Array, complain: Complain = refuse) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.superblock = readSuperblock(this.view, complain);
    this.blobs = readBlobs(this.view, this.superblock, complain);
  }

  /** The record of one name. @throws corrupt */
  raw(number: number): RawInode {
    return locateInode(this.view, this.superblock, number);
  }

  /** The number that all names of a file share. */
  ino({ at }: RawInode): number {
    return I.ino.read(this.view, at);
  }

  name({ name }: RawInode): ByteString {
    return byteString(this.#part(name));
  }

  inode(number: number): InodeAttributes {
    const { view } = this;
    const { at, mode, kind, target } = this.raw(number);
    const device = kind === "char" || kind === "block";
    return {
      nid: number,
      mode,
      uid: I.uid.read(view, at),
      gid: I.gid.read(view, at),
      size: kind === "symlink" ? target.size : I.size.read(view, at),
      mtime: I.mtime.read(view, at),
      mtimeNs: I.mtimeNs.read(view, at),
      nlink: I.nlink.read(view, at),
      rdev: device ? I.rdev.read(view, at) : 0,
    };
  }

  lookup(number: number, name: ByteString): number | undefined {
    const { childIndex, childCount } = this.#directory(number);
    let low = childIndex;
    let high = childIndex + childCount - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const child = this.raw(middle);
      const found = this.name(child);
      if (found === name) return this.ino(child);
      if (found < name) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }

  /** `.` and `..`, then the names in byte order. */
  *readdir(number: number): Iterable<DirectoryEntry> {
    const { at, childIndex, childCount } = this.#directory(number);
    yield { name: DOT, nid: number, type: "directory" };
    yield { name: DOT_DOT, nid: I.parent.read(this.view, at) || ROOT_INO, type: "directory" };
    for (let child = childIndex; child < childIndex + childCount; child++) {
      const raw = this.raw(child);
      yield { name: this.name(raw), nid: this.ino(raw), type: raw.kind };
    }
  }

  readlink(number: number): Uint8Array {
    const inode = this.raw(number);
    if (inode.kind !== "symlink") throw unreadable(`inode ${number} is not a symbolic link`);
    return this.#part(inode.target);
  }

  /** Those that Linux file systems know, as v6 keeps no others either. Values are views of the bootstrap. */
  xattrs(number: number): Map<ByteString, Uint8Array> {
    const all = readXattrs(this.view, this.raw(number).xattrs);
    for (const key of all.keys()) if (!canStoreXattr(key)) all.delete(key);
    return all;
  }

  /** Where the file's bytes [offset, offset + length) are, as far as the file reaches. */
  extents(number: number, offset: number, length: number): Extent[] {
    const { view, superblock } = this;
    const { at, kind, chunks } = this.raw(number);
    if (kind !== "file") throw unreadable(`inode ${number} is not a regular file`);
    const end = Math.min(offset + length, I.size.read(view, at));
    const found: Extent[] = [];
    for (let here = offset; here < end; ) {
      const chunk = Math.floor(here / superblock.chunkSize);
      const start = chunk * superblock.chunkSize;
      const stop = Math.min(end, start + superblock.chunkSize);
      const record = chunks.offset + chunk * chunkRecord.size;
      if (record >= chunks.offset + chunks.size)
        throw unreadable(`file ${number} has fewer chunks than its size needs`);
      const blob = R.blob.read(view, record);
      if (blob >= this.blobs.length) throw unreadable(`chunk ${chunk} of file ${number} is in no blob`);
      const local = localOffset(R.uncompressedOffset.read(view, record), R.index.read(view, record));
      found.push({ blob, offset: local + (here - start), length: stop - here });
      here = stop;
    }
    return found;
  }

  #part({ offset, size }: Region): Uint8Array {
    return this.bytes.subarray(offset, offset + size);
  }

  #directory(number: number): RawInode {
    const inode = this.raw(number);
    if (inode.kind !== "directory") throw unreadable(`inode ${number} is not a directory`);
    return inode;
  }
}
