/**
 * Checks one inode record: its name, its attributes, and the chunks of its file.
 *
 * @module
 */
import { sameBytes } from "../../base/digest.ts";
import { BrokenRule, type Complain } from "../broken-rule.ts";
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

  readonly #complain: Complain;

  /** @param complain is told of broken rules of the inode that is being looked at */
  constructor(image: V5Bootstrap, complain: Complain) {
    this.#image = image;
    this.#complain = complain;
    this.#unclaimed = image.bytes.byteLength;
  }

  root(inode: RawInode): void {
    const { view } = this.#image;
    this.#rule(inode.kind === "directory", inode, "the root is not a directory");
    this.#rule(I.parent.read(view, inode.at) === 0, inode, "the root is in a directory");
    this.#rule(this.#image.ino(inode) === ROOT_INO, inode, "the root has another number");
  }

  /**
   * @param owner the directory that has the inode
   * @param sorted whether the inode before it is in the same directory, and its name must be less
   */
  name(inode: RawInode, owner: number, sorted: boolean): void {
    const image = this.#image;
    const name = image.name(inode);
    this.#rule(name !== "" && name.length <= MAX_NAME, inode, `its name has ${name.length} bytes`);
    this.#rule(!/[/\0]/.test(name), inode, 'its name has a "/" or a NUL');
    this.#rule(name !== "." && name !== "..", inode, "no entry can have its name");
    const parent = I.parent.read(image.view, inode.at);
    this.#rule(parent === owner, inode, `it says that it is in directory ${parent}, not ${owner}`);
    if (sorted && image.name(image.raw(inode.number - 1)) >= name)
      this.#rule(false, inode, "it is out of order or there twice");
  }

  /** @throws corrupt where records cannot be what they claim together */
  record(inode: RawInode): void {
    const { view, superblock } = this.#image;
    const { at, kind, flags, childCount } = inode;
    this.#unclaimed -= inode.end - at;
    if (this.#unclaimed < 0) throw unreadable("its inodes claim more bytes than the file has");
    const ino = this.#image.ino(inode);
    const counted = ino >= 1 && ino <= inodeCount(superblock);
    this.#rule(flags <= ALL_FLAGS, inode, `it has unknown flags 0x${flags.toString(16)}`);
    const isLink = (flags & INODE_FLAGS.symlink) !== 0;
    this.#rule(isLink === (kind === "symlink"), inode, `it is a ${kind}, its flags disagree`);
    this.#rule(counted, inode, `its number ${ino} is not in the inode table`);
    this.#rule(!counted || ino === inode.number || kind !== "directory", inode, "a directory has two names");
    this.#rule(I.nlink.read(view, at) !== 0, inode, "it has 0 links");
    const nanoseconds = I.mtimeNs.read(view, at);
    this.#rule(nanoseconds < 1e9, inode, "its time has more than a second of nanoseconds");
    if (kind === "symlink") this.#symlink(inode);
    else if (kind === "file") this.#file(inode);
    else this.#rule(kind === "directory" || childCount === 0, inode, `a ${kind} has data`);
    readXattrs(view, inode.xattrs);
  }

  #rule(holds: boolean, { at }: RawInode, state: string): void {
    if (!holds) this.#complain(new BrokenRule(at, state));
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

  #symlink(inode: RawInode): void {
    const { bytes } = this.#image;
    const { offset, size } = inode.target;
    this.#rule(size > 0 && size <= MAX_TARGET, inode, `its target has ${size} bytes`);
    const hasNul = bytes.subarray(offset, offset + size).includes(0);
    this.#rule(!hasNul, inode, "its target has a NUL byte");
  }

  #file(inode: RawInode): void {
    const { view, superblock } = this.#image;
    const { chunkSize } = superblock;
    const { at, chunks, childCount } = inode;
    const size = I.size.read(view, at);
    if (childCount !== Math.ceil(size / chunkSize))
      return this.#rule(false, inode, `the file of ${size} bytes has ${childCount} chunks`);
    for (let i = 0; i < childCount; i++) {
      const record = chunks.offset + i * chunkRecord.size;
      const start = i * chunkSize;
      if (R.uncompressedSize.read(view, record) !== Math.min(chunkSize, size - start))
        this.#complain(new BrokenRule(record, `chunk ${i} has not the size of its part of the file`));
      if (R.fileOffset.read(view, record) !== start)
        this.#complain(new BrokenRule(record, `chunk ${i} says that it is of another part of the file`));
    }
  }
}
