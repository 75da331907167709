/**
 * Blobs that lie in a directory on this machine are read there, all others where they always are.
 *
 * @module
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { type Digest, digestHex } from "../base/digest.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { BlobDirectory } from "./blob-directory.ts";
import type { Fetcher, FetchOptions } from "./content.ts";

export class DirectoryFirst implements Fetcher {
  readonly #directory: string;
  readonly #rest: Fetcher;

  /** @param directory need not exist */
  constructor(directory: string, rest: Fetcher) {
    this.#directory = directory;
    this.#rest = rest;
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return await this.#holder(descriptor.digest).fetch(descriptor, options);
  }

  async sizeOf(digest: Digest, options: { signal?: AbortSignal } = {}): Promise<number | undefined> {
    return await this.#holder(digest).sizeOf?.(digest, options);
  }

  #holder(digest: Digest): Fetcher {
    const path = join(this.#directory, digestHex(digest));
    const here = statSync(path, { throwIfNoEntry: false })?.isFile() === true;
    return here ? new BlobDirectory(this.#directory) : this.#rest;
  }
}
