/**
 * The ordinary layers that have the data of an OCI-referenced image: its manifest does not list them, and without them
 * nothing of it can be read.
 *
 * @module
 */
import { digestFromHex } from "../base/digest.ts";
import { isOverTars } from "../blob/load-chunk-maps.ts";
import type { Fetcher } from "../content/content.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { Manifest } from "../oci/manifest.ts";
import { ANNOTATION, MEDIA } from "../oci/media-types.ts";
import { openImage } from "../rafs/image.ts";
import { readBootstrapLayer } from "./bootstrap-layer.ts";
import { isNydusImage } from "./load.ts";

/**
 * Sizes come from the bootstrap's blob table, or, where that has those of tars only, from the store. A layer that the image
 * does not read from is not in it, and not needed.
 *
 * @throws corrupt, and what the store throws
 */
export async function originalLayers(
  store: Fetcher,
  manifest: Manifest,
  options: { readonly signal?: AbortSignal } = {},
): Promise<readonly Descriptor[]> {
  const named = new Set(
    manifest.layers.flatMap(({ annotations }) => annotations?.[ANNOTATION.nydusRef] ?? []),
  );
  if (named.size === 0 || !isNydusImage(manifest)) return [];
  const image = openImage(await readBootstrapLayer(store, { manifest }, options));
  const layers = image.blobs
    .map(({ id, compressedSize }) => ({ digest: digestFromHex(id), size: compressedSize }))
    .filter(({ digest }) => named.has(digest))
    .map((layer) => ({ mediaType: MEDIA.ociLayerGzip, ...layer }));
  if (!isOverTars(image)) return layers;
  return await Promise.all(
    layers.map(async (layer) => ({
      ...layer,
      size: (await store.sizeOf?.(layer.digest, options)) ?? layer.size,
    })),
  );
}
