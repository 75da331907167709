/**
 * Takes exact counts of bytes from a stream, without copying where a piece lies inside one chunk of the stream.
 *
 * @module
 */
import { corrupt } from "./error.ts";

export class ExactReader implements AsyncDisposable {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
  }

  /** How much can be taken without waiting. */
  get buffered(): number {
    return this.#rest.byteLength;
  }

  /** @throws corrupt when the stream ends early */
  async take(count: number): Promise<Uint8Array> {
    if (this.#rest.byteLength >= count) return this.#cut(count);
    const whole = new Uint8Array(count);
    for (let filled = 0; filled < count; ) {
      if (this.#rest.byteLength === 0) await this.#next(count, filled);
      const piece = this.#cut(Math.min(count - filled, this.#rest.byteLength));
      whole.set(piece, filled);
      filled += piece.byteLength;
    }
    return whole;
  }

  /** Passes over bytes without keeping them. @throws corrupt when the stream ends early */
  async skip(count: number): Promise<void> {
    for (let passed = 0; passed < count; ) {
      if (this.#rest.byteLength === 0) await this.#next(count, passed);
      passed += this.#cut(Math.min(count - passed, this.#rest.byteLength)).byteLength;
    }
  }

  #cut(count: number): Uint8Array {
    const piece = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(count);
    return piece;
  }

  async #next(count: number, filled: number): Promise<void> {
    const { done, value } = await this.#reader.read();
    if (done) throw corrupt(`Cannot read ${count} bytes: the body ended after ${filled}`);
    this.#rest = value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.cancel().catch(() => {});
  }
}
