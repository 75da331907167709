/**
 * Uploads under way at the embedded registry: bytes go into a temporary file and a hash at once; only a body whose digest
 * is the promised one gets a name.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Digest, Digester } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { syncDirectory } from "../content/files.ts";

export class Upload {
  readonly id = randomUUID();
  readonly path: string;
  readonly #digester = new Digester();
  #busy = false;

  constructor(directory: string) {
    this.path = join(directory, this.id);
  }

  get size(): number {
    return this.#digester.size;
  }

  /** Adds a body. If it breaks off, what came stays, and the sender may go on from `size`. */
  async append(body: ReadableStream<Uint8Array>): Promise<void> {
    if (this.#busy) throw new NydusError("busy", `Cannot write upload "${this.id}": it is being written`);
    this.#busy = true;
    try {
      const file = await open(this.path, "a", 0o644);
      try {
        for await (const part of body) {
          let done = 0;
          while (done < part.byteLength) done += (await file.write(part, done)).bytesWritten;
          this.#digester.update(part);
        }
        await file.sync();
      } finally {
        await file.close();
      }
    } finally {
      this.#busy = false;
    }
  }

  /** @throws corrupt when the bytes are others than promised; the upload is then gone */
  async commit(digest: Digest, path: string): Promise<void> {
    if (this.#busy) throw new NydusError("busy", `Cannot end upload "${this.id}": it is being written`);
    const actual = this.#digester.finish();
    if (actual !== digest) throw corrupt(`Cannot store "${digest}": the bytes sent have digest ${actual}`);
    await rename(this.path, path);
    await syncDirectory(dirname(path));
  }
}

export class Uploads {
  readonly #directory: string;
  readonly #all = new Map<string, Upload>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** What an earlier process left half-written is removed. */
  static async open(directory: string): Promise<Uploads> {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    return new Uploads(directory);
  }

  async start(): Promise<Upload> {
    const upload = new Upload(this.#directory);
    await (await open(upload.path, "wx", 0o644)).close();
    this.#all.set(upload.id, upload);
    return upload;
  }

  get(id: string): Upload | undefined {
    return this.#all.get(id);
  }

  /** After a commit, or to give up. */
  async end(upload: Upload): Promise<void> {
    this.#all.delete(upload.id);
    await rm(upload.path, { force: true });
  }
}
