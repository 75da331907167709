/**
 * Places in a gzip file from which decoding can start, gathered while the file is decoded once.
 *
 * @module
 */
import { type Inflater, WINDOW_SIZE } from "../base/inflate.ts";

/** A block's start, and what decoding needs to know of all before it. */
export interface Checkpoint {
  /** Bytes of the gzip file before the first whole byte of the block. */
  readonly inOffset: number;
  /** Bytes decoded before the block. */
  readonly outOffset: number;
  /** 0 to 7 high bits of `previousByte`, the one before `inOffset`, belong to the block. */
  readonly bits: number;
  readonly previousByte: number;
  /**
   * The last bytes before `outOffset`, at most 32 KiB: those that are copied from later. Others are zero, for they
   * compress better so.
   */
  window: Uint8Array;
}

/** At least this far apart, in the file or decoded: each costs a window, and reading one byte costs all in between. */
const SPACING = { compressed: 512 * 1024, uncompressed: 2 ** 20 } as const;

export class CheckpointRecorder {
  readonly checkpoints: Checkpoint[] = [];
  readonly #inflater: Inflater;
  /** The newest one, while matches may still reach behind it. */
  #open: Checkpoint | undefined;

  constructor(inflater: Inflater) {
    this.#inflater = inflater;
  }

  /** At a block's start. */
  visit(inOffset: number, outOffset: number, previousByte: number): void {
    this.settle(outOffset);
    const last = this.checkpoints.at(-1);
    if (
      last !== undefined &&
      inOffset - last.inOffset < SPACING.compressed &&
      outOffset - last.outOffset < SPACING.uncompressed
    )
      return;
    this.close();
    const { out, outPosition, outStart, pendingBits: bits, marks } = this.#inflater;
    const window = out.slice(Math.max(outStart, outPosition - WINDOW_SIZE), outPosition);
    this.#open = { inOffset, outOffset, bits, previousByte: bits === 0 ? 0 : previousByte, window };
    this.checkpoints.push(this.#open);
    marks.fill(0);
    this.#inflater.markBelow = outPosition;
  }

  /** Ends the newest checkpoint's observation once nothing can reach behind it any more. */
  settle(outOffset: number): void {
    if (this.#open !== undefined && outOffset - this.#open.outOffset >= WINDOW_SIZE) this.close();
  }

  /** Nothing reaches behind the newest checkpoint from here on: the member ends. */
  close(): void {
    if (this.#open === undefined) return;
    this.#open.window = used(this.#open.window, this.#inflater.marks);
    this.#open = undefined;
    this.#inflater.markBelow = 0;
  }
}

/** @param marks by distance from the window's end, less one */
function used(window: Uint8Array, marks: Uint8Array): Uint8Array {
  const size = window.byteLength;
  const needed = Math.min(marks.lastIndexOf(1) + 1, size);
  const kept = window.slice(size - needed);
  for (let distance = 0; distance < needed; distance++)
    if (marks[distance] === 0) kept[needed - 1 - distance] = 0;
  return kept;
}
