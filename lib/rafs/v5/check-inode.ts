/**
 * Checks one inode record: its name, its attributes, and the chunks of its file.
 *
 * @module
 */
import { sameBytes } from "../../base/digest.ts";
import { chunkRecord } from "../chunk-record.ts";
import type { Region } from "../superblock.ts";
import { unreadable } from "../superblock-reader.ts";
import type { V5Bootstrap } from "./bootstrap.ts";
import { INODE_FLAGS, inodeRecord, MAX_NAME, ROOT_INO } from "./inode.ts";
import { inodeCount, type RawInode, readXattrs } from "./inode-reader.ts";

/** Linux PATH_MAX less its NUL. */
const MAX_TARGET = 4095;
/** The known flags are the lowest bits, without gaps. */
const ALL_FLAGS = Object.values(INODE_FLAGS).reduce<number>((all, bit) => all | bit, 0);

const I = inodeRecord.fields;
const R = chunkRecord.fields;

export class InodeChecker {
  readonly #image: V5Bootstrap;
  /** Bytes that records may still claim: honest ones do not share any. */
  #unclaimed: number;

  constructor(image: V5Bootstrap) {
    this.#image = image;
    this.#unclaimed = image.bytes.byteLength;
  }

  root(inode: RawInode): void {
    if (inode.kind !== "directory") throw unreadable("the root is not a directory");
    if (I.parent.read(this.#image.view, inode.at) !== 0) throw unreadable("the root is in a directory");
    if (this.#image.ino(inode) !== ROOT_INO) throw unreadable("the root has another number");
  }

  /**
   * @param owner the directory that has the inode
   * @param sorted whether the inode before it is in the same directory, and its name must be less
   */
  name(inode: RawInode, owner: number, sorted: boolean): void {
    const image = this.#image;
    const name = image.name(inode);
    if (name === "" || name.length > MAX_NAME) throw unreadable(`its name has ${name.length} bytes`);
    if (/[/\0]/.test(name)) throw unreadable('its name has a "/" or a NUL');
    if (name === "." || name === "..") throw unreadable("no entry can have its name");
    if (sorted && image.name(image.raw(inode.number - 1)) >= name)
      throw unreadable("it is out of order or there twice");
    const parent = I.parent.read(image.view, inode.at);
    if (parent !== owner) throw unreadable(`it says that it is in directory ${parent}, not ${owner}`);
  }

  record(inode: RawInode): void {
    const { view, superblock } = this.#image;
    const { at, kind, flags, childCount } = inode;
    this.#unclaimed -= inode.end - at;
    if (this.#unclaimed < 0) throw unreadable("its inodes claim more bytes than the file has");
    if (flags > ALL_FLAGS) throw unreadable(`it has unknown flags 0x${flags.toString(16)}`);
    if (((flags & INODE_FLAGS.symlink) !== 0) !== (kind === "symlink"))
      throw unreadable(`it is a ${kind}, its flags disagree`);
    const ino = this.#image.ino(inode);
    if (ino < 1 || ino > inodeCount(superblock))
      throw unreadable(`its number ${ino} is not in the inode table`);
    if (ino !== inode.number && kind === "directory") throw unreadable("a directory has two names");
    if (I.nlink.read(view, at) === 0) throw unreadable("it has 0 links");
    if (I.mtimeNs.read(view, at) >= 1e9) throw unreadable("its time has more than a second of nanoseconds");
    readXattrs(view, inode.xattrs);
    if (kind === "symlink") this.#symlink(inode);
    else if (kind === "file") this.#file(inode);
    else if (kind !== "directory" && childCount !== 0) throw unreadable(`a ${kind} has data`);
  }

  /** All names of a file must stand for the same content; attributes are those of the first name. */
  link(inode: RawInode): void {
    const image = this.#image;
    const ino = image.ino(inode);
    if (ino === inode.number) return;
    const first = image.raw(ino);
    if (image.ino(first) !== ino) throw unreadable(`it is a link to inode ${ino}, which is a link itself`);
    if (first.kind !== inode.kind || !this.#same(first.target, inode.target))
      throw unreadable(`it is not what inode ${ino} is, its first name`);
    if (
      I.size.read(image.view, first.at) !== I.size.read(image.view, inode.at) ||
      !this.#same(first.chunks, inode.chunks)
    )
      throw unreadable(`it has other data than inode ${ino}, its first name`);
  }

  #same(a: Region, b: Region): boolean {
    const { bytes } = this.#image;
    return sameBytes(
      bytes.subarray(a.offset, a.offset + a.size),
      bytes.subarray(b.offset, b.offset + b.size),
    );
  }

  #symlink({ target }: RawInode): void {
    const { bytes } = this.#image;
    if (target.size === 0 || target.size > MAX_TARGET)
      throw unreadable(`its target has ${target.size} bytes`);
    if (bytes.subarray(target.offset, target.offset + target.size).includes(0))
      throw unreadable("its target has a NUL byte");
  }

  #file({ at, chunks, childCount }: RawInode): void {
    const { view, superblock } = this.#image;
    const { chunkSize } = superblock;
    const size = I.size.read(view, at);
    if (childCount !== Math.ceil(size / chunkSize))
      throw unreadable(`the file of ${size} bytes has ${childCount} chunks`);
    for (let i = 0; i < childCount; i++) {
      const record = chunks.offset + i * chunkRecord.size;
      const start = i * chunkSize;
      if (R.uncompressedSize.read(view, record) !== Math.min(chunkSize, size - start))
        throw unreadable(`chunk ${i} has not the size of its part of the file`);
      if (R.fileOffset.read(view, record) !== start)
        throw unreadable(`chunk ${i} says that it is of another part of the file`);
    }
  }
}
