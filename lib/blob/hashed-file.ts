/**
 * A file written front to back and hashed on the way.
 *
 * @module
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { toNydusError } from "../base/error.ts";

const BUFFER = 2 ** 20;

export class HashedFile implements Disposable {
  readonly path: string;
  readonly #fd: number;
  readonly #hash = new Bun.CryptoHasher("sha256");
  readonly #buffer = new Uint8Array(BUFFER);
  #buffered = 0;
  #size = 0;

  /** @throws exists when there is such a file */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, "wx", 0o600);
    } catch (error) {
      throw toNydusError(error, `create "${path}"`);
    }
  }

  /** Bytes written so far. */
  get size(): number {
    return this.#size;
  }

  write(bytes: Uint8Array): void {
    this.#size += bytes.byteLength;
    if (this.#buffered + bytes.byteLength > BUFFER) this.#flush();
    if (bytes.byteLength >= BUFFER) {
      this.#output(bytes);
      return;
    }
    this.#buffer.set(bytes, this.#buffered);
    this.#buffered += bytes.byteLength;
  }

  /** SHA-256 of all that was written so far, 32 bytes. What was written is in the file when this returns. */
  digest(): Uint8Array {
    this.#flush();
    return this.#hash.copy().digest();
  }

  #flush(): void {
    if (this.#buffered > 0) this.#output(this.#buffer.subarray(0, this.#buffered));
    this.#buffered = 0;
  }

  #output(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    try {
      for (let at = 0; at < bytes.byteLength; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      throw toNydusError(error, `write "${this.path}"`);
    }
  }

  /** Closes the file; removing it is for whoever owns the directory. */
  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
