/**
 * Stored ranges out of one body that is read from front to back, and the digest of all of it.
 *
 * @module
 */
import { type Digest, Digester } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";

export class BlobStream implements AsyncDisposable {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #digester = new Digester();
  /** Bytes that have come, from `#start` on. */
  #buffer: Uint8Array = new Uint8Array(0);
  #start = 0;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader();
  }

  /** Ranges come in the order of their starts; they may overlap. @throws corrupt when the body ends early */
  async take(start: number, size: number): Promise<Uint8Array> {
    this.#drop(start);
    const pieces = [this.#buffer];
    let have = this.#buffer.byteLength;
    while (this.#start + have < start + size) {
      const piece = await this.#next();
      if (piece === undefined)
        throw corrupt(`Cannot read ${size} bytes at ${start}: the blob ends at ${this.#start + have}`);
      pieces.push(piece);
      have += piece.byteLength;
      if (this.#start + have > start) continue;
      // Nobody wants what lies before the range.
      this.#start += have;
      pieces.length = 0;
      have = 0;
    }
    this.#buffer = pieces.length === 1 ? (pieces[0] ?? this.#buffer) : Buffer.concat(pieces);
    this.#drop(start);
    return this.#buffer.subarray(0, size);
  }

  /** Reads the rest, and says what all of the body was. */
  async finish(): Promise<{ readonly digest: Digest; readonly size: number }> {
    while ((await this.#next()) !== undefined);
    return { digest: this.#digester.finish(), size: this.#digester.size };
  }

  #drop(start: number): void {
    const count = Math.min(Math.max(start - this.#start, 0), this.#buffer.byteLength);
    this.#buffer = this.#buffer.subarray(count);
    this.#start += count;
  }

  async #next(): Promise<Uint8Array | undefined> {
    const { done, value } = await this.#reader.read();
    if (done) return undefined;
    this.#digester.update(value);
    return value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.cancel().catch(() => {});
  }
}
