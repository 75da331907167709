/**
 * From what people write to a Nydus image: an image of a store, or a bootstrap file with its blobs somewhere.
 *
 * @module
 */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { NydusError } from "../base/error.ts";
import { BlobDirectory } from "../content/blob-directory.ts";
import type { Fetcher, ImageStore } from "../content/content.ts";
import type { Platform } from "../oci/descriptor.ts";
import type { RegistryAccess } from "../registry/access.ts";
import { type Adopt, withLayerBlobs } from "./adopted.ts";
import { readBootstrapFile } from "./bootstrap-file.ts";
import { readBootstrapLayer } from "./bootstrap-layer.ts";
import { type Image, isNydusImage, loadImage } from "./load.ts";
import { openStore } from "./open.ts";

/** What no reference looks like. */
const PATH = /^\.{0,2}\//;

export interface ImageLocation extends RegistryAccess {
  /** An image as `openStore` takes it, or the path of a bootstrap file. */
  readonly location: string;
  /** Of a bootstrap file: the directory that has its blobs, each named by its hex digest. */
  readonly blobs?: string;
  /** Of a bootstrap file: the image location whose repository has its blobs. */
  readonly backend?: string;
  /** Read external blobs that nothing vouches for. */
  readonly allowUnverified?: boolean;
  /** What makes a Nydus image of one that is none; without it such images are refused. */
  readonly adopt?: Adopt;
  /** Which image of an index; by default this machine's. */
  readonly platform?: Platform;
  readonly signal?: AbortSignal;
}

/** A Nydus image whose bootstrap has been read and not been looked at. */
export interface LocatedImage extends AsyncDisposable {
  /** As it was written. */
  readonly name: string;
  readonly bootstrap: Uint8Array;
  /** Manifest and config; undefined for a bootstrap file. */
  readonly image: Image | undefined;
  /** Where data blobs come from; undefined for a bootstrap file without `blobs` and `backend`. */
  readonly fetcher: Fetcher | undefined;
  /** Where compression information lies that no blob has. */
  readonly directory?: string;
  /** As it was asked for. */
  readonly allowUnverified?: boolean;
}

/** @throws unsupported when the image is not a Nydus one, and what opening the place throws */
export async function locateImage(request: ImageLocation): Promise<LocatedImage> {
  const { location, blobs, backend } = request;
  if (isFile(location)) return await bootstrapFile(request);
  if (blobs !== undefined || backend !== undefined || PATH.test(location))
    throw new NydusError("not_found", `Cannot read bootstrap "${location}": no such file`);
  const { store, reference } = await openStore(location, request);
  try {
    const image = await loadImage(store, reference, request);
    if (!isNydusImage(image.manifest)) {
      if (request.adopt !== undefined) return await adoptedImage(request, request.adopt, store, image);
      throw new NydusError(
        "unsupported",
        `Cannot use "${location}": it is not a Nydus image; convert it first: nydus-tool convert ${location} TARGET`,
      );
    }
    const bootstrap = await readBootstrapLayer(store, image, signalOf(request));
    const close = async (): Promise<void> => store[Symbol.asyncDispose]();
    const { allowUnverified = false } = request;
    return {
      name: location,
      bootstrap,
      image,
      fetcher: store,
      allowUnverified,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/** Whether it is a bootstrap file or a Nydus image; else it is an ordinary image. */
export async function isNydusLocation(request: ImageLocation): Promise<boolean> {
  const { location } = request;
  if (isFile(location) || PATH.test(location)) return true;
  const { store, reference } = await openStore(request.location, request);
  await using _store = store;
  return isNydusImage((await loadImage(store, reference, request)).manifest);
}

/** Whether the location is a file on disk, thus a bootstrap. */
export function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

async function adoptedImage(
  request: ImageLocation,
  adopt: Adopt,
  store: ImageStore,
  image: Image,
): Promise<LocatedImage> {
  const adopted = await adopt(store, image, signalOf(request));
  const { bootstrap } = adopted;
  return {
    name: request.location,
    bootstrap: readBootstrapFile(bootstrap),
    image,
    fetcher: withLayerBlobs(bootstrap, store),
    directory: dirname(bootstrap),
    [Symbol.asyncDispose]: async () => {
      await adopted[Symbol.asyncDispose]?.();
      await store[Symbol.asyncDispose]();
    },
  };
}

async function bootstrapFile(request: ImageLocation): Promise<LocatedImage> {
  const { location, blobs, backend } = request;
  const bootstrap = readBootstrapFile(location);
  const opened = backend === undefined ? undefined : await openStore(backend, request);
  const fetcher = blobs === undefined ? opened?.store : new BlobDirectory(blobs);
  return {
    name: location,
    bootstrap,
    image: undefined,
    fetcher,
    ...(request.allowUnverified === undefined ? {} : { allowUnverified: request.allowUnverified }),
    [Symbol.asyncDispose]: async () => opened?.store[Symbol.asyncDispose](),
  };
}

function signalOf({ signal }: ImageLocation): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
