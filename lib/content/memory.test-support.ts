/** A store in memory. @module */

import type { Digest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { isIndexType, isManifestType } from "../oci/media-types.ts";
import { abortable } from "./abortable.ts";
import type { FetchOptions, ImageStore } from "./content.ts";
import { chooseManifest } from "./names.ts";
import { checkRange, readAll, streamOf, verified } from "./verified.ts";

/** Largest blob kept; more than this in memory is a mistake. */
const BLOB_LIMIT = 2 ** 30;
const DEFAULT_TAG = "latest";

export class MemoryStore implements ImageStore {
  readonly name: string;
  readonly #blobs = new Map<Digest, Uint8Array>();
  readonly #tags = new Map<string, Descriptor>();

  constructor(name = "memory") {
    this.name = name;
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    options.signal?.throwIfAborted();
    const bytes = this.#blobs.get(descriptor.digest);
    if (bytes === undefined)
      throw new NydusError(
        "not_found",
        `Cannot read "${descriptor.digest}" from ${this.name}: it is not there`,
      );
    const { range } = options;
    if (range === undefined) return verified(streamOf(bytes), descriptor, this.name);
    checkRange(range, bytes.byteLength, descriptor.digest, this.name);
    return streamOf(bytes.subarray(range.start, range.end));
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    return this.#blobs.get(digest)?.byteLength;
  }

  async has(descriptor: Descriptor): Promise<boolean> {
    return this.#blobs.has(descriptor.digest);
  }

  async push(
    descriptor: Descriptor,
    body: ReadableStream<Uint8Array>,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    const checked = verified(abortable(body, options.signal), descriptor, "the source");
    const bytes = await readAll(checked, BLOB_LIMIT, `"${descriptor.digest}"`);
    // A copy: the caller may go on using its buffer.
    this.#blobs.set(descriptor.digest, new Uint8Array(bytes));
  }

  async resolve(reference?: string): Promise<Descriptor> {
    const named = [...this.#tags].map(([name, descriptor]) => ({ names: [name], descriptor }));
    return chooseManifest(named, reference, this.name);
  }

  async tag(descriptor: Descriptor, reference = DEFAULT_TAG): Promise<void> {
    if (!isManifestType(descriptor.mediaType) && !isIndexType(descriptor.mediaType))
      throw new NydusError("usage", `Cannot tag "${descriptor.digest}": it is not a manifest`);
    if (!this.#blobs.has(descriptor.digest))
      throw new NydusError("not_found", `Cannot tag "${descriptor.digest}" in ${this.name}: it is not there`);
    this.#tags.set(reference, descriptor);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#blobs.clear();
    this.#tags.clear();
  }
}
