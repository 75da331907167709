/**
 * Layers that containerd did not fetch, because they have a table of contents (eStargz, zstd:chunked) or a Nydus image
 * refers to their image: the image up to such a layer gets a bootstrap, in the layer's own directory, when the first
 * container needs it. Any layers can be mounted so: those that nothing else is known of are read once.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { chainIds } from "../containerd/chain-id.ts";
import type { AdoptedImage } from "../image/adopted.ts";
import { type Image, loadImage } from "../image/load.ts";
import type { OpenedStore } from "../image/open.ts";
import { adoptImage } from "../layers/adopt.ts";
import { adoptedIn } from "../layers/adopted-place.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import { purposeOf } from "./labels.ts";
import type { Snapshot } from "./metastore.ts";
import type { Referrers } from "./referrers.ts";
import { chainIdOf } from "./resolve-reference.ts";

/** @param place a directory of the layer's own, which need not exist */
export type AdoptLayers = (
  snapshot: Pick<Snapshot, "name" | "labels">,
  reference: string,
  place: string,
) => Promise<AdoptedImage>;

export const noAdoption: AdoptLayers = async ({ name }) => {
  throw new NydusError(
    "unsupported",
    `Cannot mount the layers up to snapshot "${name}": nobody fetches them`,
  );
};

/** Whether the snapshot stands for layers of an ordinary image that were not fetched. */
export function isAdopted({ layer, labels }: Pick<Snapshot, "layer" | "labels">): boolean {
  return layer === "nydus-bootstrap" && !(ANNOTATION.nydusBootstrap in labels);
}

/**
 * @param openImage opens the store that an image's reference names
 * @param referrers if given, Nydus images that refer to an image are taken
 */
export function layerAdopter(
  openImage: (reference: string) => Promise<OpenedStore>,
  referrers?: Pick<Referrers, "adopt">,
): AdoptLayers {
  return async (snapshot, reference, place) => {
    // A mount that comes back after a restart must not need the registry.
    const there = adoptedIn(place);
    if (there !== undefined) return there;
    const { manifest } = purposeOf(snapshot.labels);
    const chainId = chainIdOf(snapshot);
    if (chainId === undefined)
      throw new NydusError("not_found", `Cannot mount snapshot "${snapshot.name}": it has no chain ID`);
    const referring =
      manifest === undefined ? undefined : await referrers?.adopt({ reference, manifest, chainId }, place);
    if (referring !== undefined) return referring;
    const { store, reference: tag } = await openImage(reference);
    await using _store = store;
    return await adoptImage(store, upTo(await loadImage(store, manifest ?? tag), chainId), place);
  };
}

/** Other images may be built on these layers: only they count. */
function upTo(image: Image, chainId: Digest): Image {
  const count = chainIds(image.layers.map(({ diffId }) => diffId)).indexOf(chainId) + 1;
  if (count > 0) return { ...image, layers: image.layers.slice(0, count) };
  throw corrupt(
    `Cannot mount the layers up to "${chainId}": image "${image.descriptor.digest}" is not made of them`,
  );
}
