/**
 * Buffers for replies that wait for data, used again and again: as garbage, they would be collected long after.
 *
 * @module
 */
import { OUT } from "../../ffi/fuse.ts";

/** Bytes that are kept; what is needed on top, while a source is slow, is garbage afterwards. */
const KEPT = 4 << 20;
/** Bytes of the smallest ones. */
const LEAST = 64 << 10;

export class ReplyBuffers {
  /** By size: powers of two, and a header. */
  readonly #spare = new Map<number, Uint8Array<ArrayBuffer>[]>();
  #bytes = 0;

  /** For so many bytes behind the header. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    const size = OUT.SIZE + Math.max(LEAST, 2 ** Math.ceil(Math.log2(bytes)));
    const spare = this.#spare.get(size)?.pop();
    if (spare === undefined) return new Uint8Array(size);
    this.#bytes -= size;
    return spare;
  }

  /** Nobody may look at it any more. */
  giveBack(buffer: Uint8Array<ArrayBuffer>): void {
    const size = buffer.byteLength;
    if (this.#bytes + size > KEPT) return;
    this.#bytes += size;
    const spare = this.#spare.get(size);
    if (spare === undefined) this.#spare.set(size, [buffer]);
    else spare.push(buffer);
  }
}
