/**
 * An ordinary image is used through the Nydus image that refers to it. The image as a whole has that one's bootstrap; its
 * lower layers, which other images may be built on, have one that is put together of what the blobs say of their layers.
 *
 * @module
 */
import { basename } from "node:path";
import { digestHex } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import type { Fetcher } from "../content/content.ts";
import { mergeBootstraps } from "../convert/merge-bootstraps.ts";
import { ownLayers, restoreLayers } from "../convert/restore-layers.ts";
import type { AdoptedImage } from "../image/adopted.ts";
import { readBlobTables, readBootstrapLayer } from "../image/bootstrap-layer.ts";
import type { Image } from "../image/load.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import { checkImage, openImage } from "../rafs/image.ts";
import { makeAdopted, writeAdopted } from "./adopted-place.ts";

interface Options {
  readonly signal?: AbortSignal;
}

/**
 * Whether one can stand for the other, as far as manifests and configs say.
 *
 * @throws corrupt
 */
export function assertFits(nydus: Image, ordinary: Image): void {
  const misfit = (state: string): NydusError =>
    corrupt(`Cannot use "${nydus.descriptor.digest}" for the image that it refers to: ${state}`);
  const [a, b] = [nydus.config, ordinary.config];
  if (a.os !== b.os || a.architecture !== b.architecture) throw misfit("it is for another platform");
  const [blobs, layers] = [ownLayers(nydus.manifest.layers).length, ordinary.layers.length];
  // Some converters make no blob of a layer without data.
  if (blobs > layers) throw misfit(`it has ${blobs} blobs for ${layers} layers`);
}

/**
 * Makes the whole image's bootstrap; nobody has checked it.
 *
 * @param place a directory of its own; what is in it already is taken
 * @throws corrupt, and what the store throws
 */
export async function adoptReferring(
  store: Fetcher,
  nydus: Image,
  place: string,
  options: Options = {},
): Promise<AdoptedImage> {
  return await makeAdopted(place, `use "${nydus.descriptor.digest}"`, async (work) => {
    const bootstrap = await readBootstrapLayer(store, nydus, options);
    const { version, blobs } = openImage(bootstrap);
    assertHasBlobs(nydus, blobs);
    await writeAdopted(work, {
      bootstrap,
      format: formatOf(version),
      chunkInfos: await blobTables(store, nydus, options),
    });
  });
}

/**
 * Makes a bootstrap of the lowest layers of the image that `nydus` refers to.
 *
 * @param ordinary how many layers that image has
 * @param count how many of them are wanted
 * @throws unsupported when the layers cannot be told apart, corrupt, and what the store throws
 */
export async function adoptLowest(
  store: Fetcher,
  nydus: Image,
  { ordinary, count }: { readonly ordinary: number; readonly count: number },
  place: string,
  options: Options = {},
): Promise<AdoptedImage> {
  const name = nydus.descriptor.digest;
  return await makeAdopted(place, `use the lowest layers of "${name}"`, async (work) => {
    const image = await opened(store, nydus, options);
    const layers = await restoreLayers(image, options);
    if (layers.length !== ordinary)
      throw new NydusError(
        "unsupported",
        `Cannot tell the layers of "${name}" apart: it has ${layers.length} blobs for ${ordinary} layers`,
      );
    const { bytes } = await mergeBootstraps(
      layers.slice(0, count).map(({ blob, bootstrap }) => ({
        name: `layer "${blob.digest}"`,
        bytes: bootstrap,
        found: { digest: digestHex(blob.digest), size: blob.size },
      })),
    );
    await writeAdopted(work, {
      bootstrap: bytes,
      format: formatOf(image.bootstrap.version),
      chunkInfos: await blobTables(store, nydus, options),
    });
  });
}

async function opened(store: Fetcher, nydus: Image, options: Options): Promise<NydusImage> {
  const name = nydus.descriptor.digest;
  const bootstrap = await readBootstrapLayer(store, nydus, options);
  const [violation] = await checkImage(bootstrap);
  if (violation !== undefined)
    throw corrupt(`Cannot trust the bootstrap of "${name}": ${violation.path}: ${violation.message}`);
  return await NydusImage.trusting({
    ...{ name, bootstrap, image: nydus, fetcher: store },
    [Symbol.asyncDispose]: async () => {}, // the store is the caller's
  });
}

/** A blob that is nowhere would be noticed by the container that reads it. */
function assertHasBlobs({ descriptor, manifest }: Image, blobs: readonly { readonly id: string }[]): void {
  const there = new Set<string | undefined>(
    manifest.layers.flatMap(({ digest, annotations }) => [digest, annotations?.[ANNOTATION.nydusRef]]),
  );
  const missing = blobs.find(({ id }) => !there.has(`sha256:${id}`));
  if (missing !== undefined)
    throw corrupt(`Cannot use "${descriptor.digest}": its manifest does not have blob "${missing.id}"`);
}

/** Of blobs whose data is in the original layers; others have their own. */
async function blobTables(
  store: Fetcher,
  nydus: Image,
  options: Options,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const refers = nydus.manifest.layers.some(({ annotations }) => annotations?.[ANNOTATION.nydusRef]);
  const tables = refers ? await readBlobTables(store, nydus, options) : [];
  return new Map(tables.map(({ path, bytes }) => [basename(path, ".blob.meta"), bytes]));
}

function formatOf(version: number): string {
  return `RAFS v${version}, by a referrer`;
}
