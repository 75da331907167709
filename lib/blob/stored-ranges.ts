/**
 * Takes stored ranges out of one body, in the order of their starts. Chunks of one unit have the same range, windows
 * into a gzip layer overlap, and between ranges there may be gaps.
 *
 * @module
 */
import { corrupt } from "../base/error.ts";
import type { ExactReader } from "../base/exact-reader.ts";

export class StoredRanges {
  readonly #body: ExactReader;
  /** The last range taken. */
  #start: number;
  #bytes: Uint8Array = new Uint8Array(0);
  /** Bytes that the last range took of the body: none that a range before it had. */
  fresh = 0;

  /** @param start where the body begins in the blob */
  constructor(body: ExactReader, start: number) {
    this.#body = body;
    this.#start = start;
  }

  get #end(): number {
    return this.#start + this.#bytes.byteLength;
  }

  /** Whether a range can be taken without waiting. */
  has(start: number, size: number): boolean {
    return start + size - this.#end <= this.#body.buffered;
  }

  /** @throws corrupt when the body ends early */
  async take(start: number, size: number): Promise<Uint8Array> {
    if (start < this.#start) throw corrupt(`Cannot read ${size} bytes at ${start}: the body is past them`);
    if (start > this.#end) {
      await this.#body.skip(start - this.#end);
      this.#start = start;
      this.#bytes = new Uint8Array(0);
    }
    const known = this.#bytes.subarray(start - this.#start);
    this.fresh = Math.max(0, size - known.byteLength);
    if (this.fresh === 0) return known.subarray(0, size);
    const rest = await this.#body.take(this.fresh);
    this.#bytes = known.byteLength === 0 ? rest : Buffer.concat([known, rest]);
    this.#start = start;
    return this.#bytes;
  }
}
