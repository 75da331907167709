/**
 * Exact reads from a stream of byte pieces. What is handed out is a view of a piece wherever it lies inside one, so a
 * source must not use a piece again after giving it.
 *
 * @module
 */

const EMPTY = new Uint8Array(0);

export class ByteQueue {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #signal: AbortSignal | undefined;
  #piece: Uint8Array = EMPTY;
  #used = 0;
  #ended = false;
  /** Bytes handed out or skipped so far. */
  position = 0;

  constructor(source: AsyncIterable<Uint8Array>, signal?: AbortSignal) {
    this.#source = source[Symbol.asyncIterator]();
    this.#signal = signal;
  }

  /** Up to `most` bytes that are there already; empty when a piece has to be awaited with `more`. */
  ready(most: number): Uint8Array {
    const end = Math.min(this.#used + most, this.#piece.byteLength);
    const view = this.#piece.subarray(this.#used, end);
    this.position += end - this.#used;
    this.#used = end;
    return view;
  }

  /** Waits for the next piece when all is used up; false at the end of the source. */
  async more(): Promise<boolean> {
    while (this.#used === this.#piece.byteLength) {
      if (this.#ended) return false;
      this.#signal?.throwIfAborted();
      const { done, value } = await this.#source.next();
      if (done === true) {
        this.#ended = true;
        this.#piece = EMPTY;
      } else this.#piece = value;
      this.#used = 0;
    }
    return true;
  }

  /** Exactly `size` bytes, or as many as there are before the end. Only for sizes that were checked. */
  async take(size: number): Promise<Uint8Array> {
    const first = this.ready(size);
    if (first.byteLength === size) return first;
    const whole = new Uint8Array(size);
    whole.set(first);
    let filled = first.byteLength;
    while (filled < size && (await this.more())) {
      const view = this.ready(size - filled);
      whole.set(view, filled);
      filled += view.byteLength;
    }
    return whole.subarray(0, filled);
  }

  /** Passes over `size` bytes; returns how many were missing at the end. */
  async skip(size: number): Promise<number> {
    let left = size - this.ready(size).byteLength;
    while (left > 0 && (await this.more())) left -= this.ready(left).byteLength;
    return left;
  }

  /** Reads the source to its end, so that whoever hashes it sees all of it. */
  async drain(): Promise<void> {
    do this.ready(Number.POSITIVE_INFINITY);
    while (await this.more());
  }

  /** Tells the source that nothing more is wanted. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#source.return?.();
  }
}
