/**
 * Where inodes go. The reference fills the holes that alignment leaves at the ends of blocks, and the order in which it
 * takes them decides every nid; the same order gives the same bytes.
 *
 * @module
 */
import { alignDown, alignUp } from "../base/math.ts";
import { NID_UNIT } from "./inode.ts";
import { BLOCK_SIZE } from "./superblock.ts";

export interface Place {
  /** Of the inode. */
  readonly at: number;
  /** Of the data's full blocks; where they would be if there are none. */
  readonly dataAt: number;
}

export class Allocator {
  /** The first 4096 bytes stay free, so that no inode has nid 0. */
  #cursor = BLOCK_SIZE;
  /** Blocks with k free slots at their end, oldest first. */
  readonly #holes: number[][];
  /** No hole has more free slots than this. */
  #largest = 0;
  readonly #blockSize: number;

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
    this.#holes = Array.from({ length: blockSize / NID_UNIT }, () => []);
  }

  get end(): number {
    return this.#cursor;
  }

  /** An inode with the tail of its data right behind it, and full blocks elsewhere. The two share one block. */
  inline(headSize: number, dataSize: number): Place {
    const tail = dataSize % this.#blockSize;
    const size = headSize + tail;
    const hole = this.#take(size);
    const at = hole ?? this.#fresh(size);
    // Even when a hole was found for the inode, full blocks start behind everything.
    if (dataSize !== tail) this.#closeBlock();
    const dataAt = this.#cursor;
    this.#cursor += dataSize - tail;
    this.#alignInode();
    return { at, dataAt };
  }

  /** An inode with all its data in blocks elsewhere. */
  plain(headSize: number, dataSize: number): Place {
    const at = this.#take(headSize) ?? this.#append(headSize);
    this.#closeBlock();
    const dataAt = this.#cursor;
    this.#cursor = alignUp(this.#cursor + dataSize, this.#blockSize);
    return { at, dataAt };
  }

  /** A regular file's inode with its chunk indexes; it may cross blocks. */
  file(size: number): Place {
    const at = this.#take(size) ?? this.#append(size);
    this.#alignInode();
    return { at, dataAt: 0 };
  }

  /** Special files are never put into holes. */
  special(size: number): Place {
    const at = this.#append(size);
    this.#alignInode();
    return { at, dataAt: 0 };
  }

  #append(size: number): number {
    const at = this.#cursor;
    this.#cursor += size;
    return at;
  }

  #fresh(size: number): number {
    if (this.#blockSize - (this.#cursor % this.#blockSize) < size) this.#closeBlock();
    return this.#append(size);
  }

  #alignInode(): void {
    this.#cursor = alignUp(this.#cursor, NID_UNIT);
  }

  /** Gives what is left of the current block away, and goes on in the next. */
  #closeBlock(): void {
    this.#give(this.#cursor);
    this.#cursor = alignUp(this.#cursor, this.#blockSize);
  }

  #give(offset: number): void {
    if (offset % this.#blockSize === 0) return;
    const free = Math.floor((this.#blockSize - (offset % this.#blockSize)) / NID_UNIT);
    this.#holes[free]?.push(alignDown(offset, this.#blockSize));
    this.#largest = Math.max(this.#largest, free);
  }

  #take(size: number): number | undefined {
    if (size >= this.#blockSize) return undefined;
    const need = Math.ceil(size / NID_UNIT);
    while (this.#largest > 0 && this.#holes[this.#largest]?.length === 0) this.#largest--;
    for (let free = need; free <= this.#largest; free++) {
      const block = this.#holes[free]?.shift();
      if (block === undefined) continue;
      const at = block + this.#blockSize - NID_UNIT * free;
      this.#give(at + NID_UNIT * need);
      return at;
    }
    return undefined;
  }
}
