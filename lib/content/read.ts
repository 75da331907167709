/** Whole small blobs (manifests, configs, bootstraps) in memory. @module */

import { corrupt } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { Fetcher } from "./content.ts";
import { readAll } from "./verified.ts";

export interface ReadBlobOptions {
  /** Most bytes to accept. */
  readonly limit: number;
  /** What it is, for errors: "the manifest". */
  readonly what: string;
  readonly signal?: AbortSignal;
}

/** Verified bytes of a blob. The announced size is compared with the limit before anything is asked for. */
export async function readBlob(
  store: Fetcher,
  descriptor: Descriptor,
  options: ReadBlobOptions,
): Promise<Uint8Array> {
  const { limit, what, signal } = options;
  if (descriptor.size > limit)
    throw corrupt(
      `Cannot read ${what} "${descriptor.digest}": it has ${descriptor.size} bytes, more than ${limit}`,
    );
  const body = await store.fetch(descriptor, signal === undefined ? {} : { signal });
  return readAll(body, limit, `${what} "${descriptor.digest}"`);
}
