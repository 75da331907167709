/**
 * Uploads under way at the embedded registry: bytes go into a temporary file and a hash at once; only a body whose digest
 * is the promised one gets a name.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, truncate } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Digest, Digester } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { syncDirectory } from "../content/files.ts";

/** Milliseconds after which an upload that nobody continued is given up. */
const ABANDONED = 60 * 60_000;
/** Names that this file gives. */
const UPLOAD_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export class Upload {
  readonly id = randomUUID();
  readonly path: string;
  /** When it was last written to: performance.now(). */
  used = performance.now();
  readonly #digester = new Digester();
  /** Being written, or over: nobody may write to a file that is about to get its name. */
  #busy = false;

  constructor(directory: string) {
    this.path = join(directory, this.id);
  }

  get busy(): boolean {
    return this.#busy;
  }

  get size(): number {
    return this.#digester.size;
  }

  /** Adds a body. If it breaks off, what came stays, and the sender may go on from `size`. */
  async append(body: ReadableStream<Uint8Array>): Promise<void> {
    if (this.#busy) throw new NydusError("busy", `Cannot write upload "${this.id}": it is being written`);
    this.#busy = true;
    try {
      const file = await open(this.path, "r+");
      try {
        for await (const part of body) await this.#write(file, part);
        await file.sync();
      } finally {
        await file.close();
      }
    } finally {
      this.used = performance.now();
      this.#busy = false;
    }
  }

  /** At the place that the hash has reached: what a write that failed half way left behind is written over. */
  async #write(file: FileHandle, part: Uint8Array): Promise<void> {
    for (let done = 0; done < part.byteLength; ) {
      const { bytesWritten } = await file.write(part, done, part.byteLength - done, this.size + done);
      done += bytesWritten;
    }
    this.#digester.update(part);
  }

  /** @throws corrupt when the bytes are others than promised; the upload is then gone */
  async commit(digest: Digest, path: string): Promise<void> {
    if (this.#busy) throw new NydusError("busy", `Cannot end upload "${this.id}": it is being written`);
    this.#busy = true;
    const actual = this.#digester.finish();
    if (actual !== digest) throw corrupt(`Cannot store "${digest}": the bytes sent have digest ${actual}`);
    await truncate(this.path, this.size);
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

  /** What an earlier process left half-written is removed; files that are not ours are left alone. */
  static async open(directory: string): Promise<Uploads> {
    await mkdir(directory, { recursive: true });
    for (const name of await readdir(directory))
      if (UPLOAD_ID.test(name)) await rm(join(directory, name), { force: true });
    return new Uploads(directory);
  }

  async start(): Promise<Upload> {
    await this.#expire();
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

  async #expire(): Promise<void> {
    const before = performance.now() - ABANDONED;
    for (const upload of [...this.#all.values()])
      if (upload.used < before && !upload.busy) await this.end(upload);
  }
}
