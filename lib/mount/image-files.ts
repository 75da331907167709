/**
 * From an image (or a bootstrap file) to what a mount needs: the bootstrap in a file of the cache directory, under its
 * digest, and the place its blobs come from.
 *
 * @module
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Digest, digestHex, digestOf } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { writeFileAtomically } from "../content/files.ts";
import type { Adopt } from "../image/adopted.ts";
import { readBootstrapLayer } from "../image/bootstrap-layer.ts";
import { isNydusImage, loadImage } from "../image/load.ts";
import { openStore } from "../image/open.ts";
import type { Platform } from "../oci/descriptor.ts";
import { parsePlatform } from "../oci/platform.ts";
import type { ImageSource } from "./mount-request.ts";

export interface FetchBootstrapOptions {
  readonly source: ImageSource;
  readonly cacheDirectory: string;
  readonly platform?: string;
  /** In the place of an ordinary image, a Nydus image that refers to it. */
  readonly referrers?: boolean;
  readonly adopt?: Adopt;
  readonly signal: AbortSignal;
}

export interface FetchedBootstrap {
  /** Path of the bootstrap. */
  readonly bootstrap: string;
  /** Digest of the image's manifest. */
  readonly image: Digest;
  /** What an image is that is not a Nydus image. */
  readonly format?: string;
}

/** @throws unsupported when the image is not a Nydus one and nothing can make it one */
export async function fetchBootstrap(options: FetchBootstrapOptions): Promise<FetchedBootstrap> {
  const { source, signal } = options;
  const { store, reference } = await openStore(source.location, source);
  await using _store = store;
  const { referrers = false } = options;
  const image = await loadImage(store, reference, { signal, referrers, ...platformOption(options.platform) });
  if (!isNydusImage(image.manifest)) {
    const { digest } = image.descriptor;
    if (options.adopt !== undefined)
      return { ...(await options.adopt(store, image, { signal })), image: digest };
    throw new NydusError(
      "unsupported",
      `Cannot mount "${source.location}": it is not a Nydus image; convert it first: nydus-tool convert ${source.location} TARGET`,
    );
  }
  const bytes = await readBootstrapLayer(store, image, { signal });
  return { bootstrap: await keep(bytes, options.cacheDirectory), image: image.descriptor.digest };
}

function platformOption(platform: string | undefined): { platform?: Platform } {
  return platform === undefined ? {} : { platform: parsePlatform(platform) };
}

async function keep(bootstrap: Uint8Array, cacheDirectory: string): Promise<string> {
  const directory = join(cacheDirectory, "bootstraps");
  const path = join(directory, digestHex(digestOf(bootstrap)));
  if (existsSync(path)) return path;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  await writeFileAtomically(path, bootstrap, { mode: 0o600 });
  return path;
}
