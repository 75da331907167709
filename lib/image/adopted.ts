/**
 * Images that are not Nydus images, but are used as if they were: something above makes a bootstrap for them on this
 * machine, and their data stays in the original layers.
 *
 * @module
 */
import { dirname, join } from "node:path";
import type { Fetcher } from "../content/content.ts";
import { DirectoryFirst } from "../content/directory-first.ts";
import type { Image } from "./load.ts";

export interface AdoptedImage extends Partial<AsyncDisposable> {
  /** Path of the bootstrap. Compression information lies beside it. */
  readonly bootstrap: string;
  /** What the layers are, for people; undefined for a Nydus image. */
  readonly format?: string;
}

export type Adopt = (
  store: Fetcher,
  image: Image,
  options?: { readonly signal?: AbortSignal },
) => Promise<AdoptedImage>;

/** Beside a bootstrap: blobs that were made with it, and are nowhere else. */
export const LAYER_BLOBS = "layer-blobs";

/** @param path of a bootstrap, adopted or not */
export function withLayerBlobs(path: string, source: Fetcher): Fetcher {
  return new DirectoryFirst(join(dirname(path), LAYER_BLOBS), source);
}
