/**
 * Walks over the entries of one directory without making an object for each: names stay where they are.
 *
 * @module
 */
import type { Bootstrap } from "./bootstrap.ts";
import { BrokenRule } from "./broken-rule.ts";
import type { Here, Report } from "./check-report.ts";
import { entryCount } from "./directory-reader.ts";
import { dirent, MAX_NAME } from "./dirent.ts";
import { blockCount, dataBlock, type RawInode } from "./inode-reader.ts";
import type { Region } from "./superblock.ts";

const SLASH = 0x2f;
const DOT = 0x2e;

const D = dirent.fields;

/** Call `next` until it is false. What makes no sense is reported, and the rest of its block passed over. */
export class DirectoryScan {
  readonly #image: Bootstrap;
  readonly #inode: RawInode;
  readonly #here: Here;
  readonly #report: Report;
  #block: Region = { offset: 0, size: 0 };
  #blockIndex = -1;
  #count = 0;
  #k = 0;
  /** Byte offsets of the current entry and its name. */
  entry = 0;
  nameAt = 0;
  nameSize = 0;
  isDot = false;
  /** How many of "." and ".." were met. */
  dots = 0;
  /** Whether every entry was there, up to the last one. */
  complete = false;
  #skipped = false;

  constructor(image: Bootstrap, visit: Here & { readonly nid: number }, report: Report) {
    this.#image = image;
    this.#inode = image.raw(visit.nid);
    this.#here = visit;
    this.#report = report;
  }

  next(): boolean {
    const previousAt = this.nameAt;
    const previousSize = this.nameSize;
    do {
      if (this.#k === this.#count && !this.#nextBlock()) {
        this.complete = !this.#skipped;
        return false;
      }
    } while (!this.#readsEntry());
    const { bytes } = this.#image;
    if (previousSize > 0 && !isLess(bytes, previousAt, previousSize, this.nameAt, this.nameSize))
      this.#complain("it is out of order or there twice");
    this.#checkName();
    this.#k++;
    return true;
  }

  /** Goes to the next block that has entries; false when there is none. */
  #nextBlock(): boolean {
    const blocks = blockCount(this.#inode);
    while (++this.#blockIndex < blocks && !this.#report.full) {
      try {
        this.#block = dataBlock(this.#image.view, this.#inode, this.#blockIndex);
        this.#count = entryCount(this.#image.view, this.#block);
        this.#k = 0;
        return true;
      } catch (error) {
        this.#skip(error);
      }
    }
    return false;
  }

  #readsEntry(): boolean {
    try {
      this.#readEntry();
      return true;
    } catch (error) {
      this.#skip(error);
      return false;
    }
  }

  /** The block cannot be read any further. */
  #skip(error: unknown): void {
    this.#report.caught(this.#here, this.#inode.at, error);
    this.#skipped = true;
    this.#k = this.#count;
  }

  #readEntry(): void {
    const { view } = this.#image;
    const { offset, size } = this.#block;
    this.entry = offset + this.#k * dirent.size;
    const start = D.nameOffset.read(view, this.entry);
    const last = this.#k + 1 === this.#count;
    const limit = last ? size : D.nameOffset.read(view, this.entry + dirent.size);
    if (start < this.#count * dirent.size || limit <= start || limit > size)
      throw new BrokenRule(this.entry, `directory entry at ${this.entry} has its name nowhere`);
    let end = limit;
    if (last) for (end = start; end < limit && view.getUint8(offset + end) !== 0; ) end++;
    if (end === start || end - start > MAX_NAME)
      throw new BrokenRule(this.entry, `directory entry at ${this.entry} has a name of ${end - start} bytes`);
    this.nameAt = offset + start;
    this.nameSize = end - start;
  }

  #checkName(): void {
    const { bytes } = this.#image;
    const { nameAt, nameSize } = this;
    for (let i = nameAt; i < nameAt + nameSize; i++) {
      const byte = bytes[i];
      if (byte === SLASH || byte === 0) return this.#complain('its name has a "/" or a NUL');
    }
    this.isDot = nameSize <= 2 && bytes[nameAt] === DOT && (nameSize === 1 || bytes[nameAt + 1] === DOT);
    if (this.isDot) this.dots++;
  }

  #complain(message: string): void {
    const { nameAt, nameSize } = this;
    this.#report.add({ parent: this.#here, nameAt, nameSize }, this.entry, message);
  }
}

/** Byte order, the order of the kernel's binary search. */
function isLess(bytes: Uint8Array, a: number, aSize: number, b: number, bSize: number): boolean {
  const common = Math.min(aSize, bSize);
  for (let i = 0; i < common; i++) {
    const difference = (bytes[a + i] ?? 0) - (bytes[b + i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return aSize < bSize;
}
