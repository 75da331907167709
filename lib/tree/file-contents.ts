/**
 * File after file out of one stream of chunks.
 *
 * @module
 */
import type { RegularFile } from "./tree.ts";

/** Hands out one file's content after the other, in the order of `chunksInOrder`. */
export class FileContents implements AsyncDisposable {
  readonly #chunks: AsyncGenerator<Uint8Array, undefined>;

  constructor(chunks: AsyncGenerator<Uint8Array, undefined>) {
    this.#chunks = chunks;
  }

  /** To be read to its end before the next file is asked for. */
  async *next(file: RegularFile): AsyncGenerator<Uint8Array, undefined> {
    for (let left = file.chunks.length; left > 0; left--) {
      const { value } = await this.#chunks.next();
      if (value !== undefined) yield value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return(undefined);
  }
}
