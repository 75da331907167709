/**
 * A directory of blobs, each in a file named by its hex digest, as `nydus-image create --blob-dir` leaves them.
 *
 * @module
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { type Digest, digestHex } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { Fetcher, FetchOptions } from "./content.ts";

export class BlobDirectory implements Fetcher {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const path = join(this.#directory, digestHex(descriptor.digest));
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined) throw new NydusError("not_found", `Cannot read blob "${path}": no such file`);
    const { start = 0, end = size } = options.range ?? {};
    if (end > size)
      throw corrupt(`Cannot read blob "${path}": bytes ${start} to ${end} are past its ${size} bytes`);
    return Bun.file(path).slice(start, end).stream();
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    return statSync(join(this.#directory, digestHex(digest)), { throwIfNoEntry: false })?.size;
  }
}
