/**
 * Buffers for replies that wait for data. Each is as large as a reply can be, but takes no more memory than was ever
 * written to it; the one used last is used next.
 *
 * @module
 */
import { MAX_READ, OUT } from "../../ffi/fuse.ts";

/** More wait only while a source is slow; those that come on top are garbage afterwards. */
const KEPT = 16;

export class ReplyBuffers {
  readonly #spare: Uint8Array<ArrayBuffer>[] = [];

  take(): Uint8Array<ArrayBuffer> {
    return this.#spare.pop() ?? new Uint8Array(OUT.SIZE + MAX_READ);
  }

  /** Nobody may look at it any more. */
  giveBack(buffer: Uint8Array<ArrayBuffer>): void {
    if (this.#spare.length < KEPT) this.#spare.push(buffer);
  }

  /** Lets go of those that nobody uses. */
  shrink(): void {
    this.#spare.length = 0;
  }
}
