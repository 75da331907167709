/**
 * The layers that an image was made of, restored from the bootstraps inside its blobs: what upper layers hide comes
 * back, and whiteouts with it.
 *
 * Those bootstraps are only as good as what they give: laid over each other they must be exactly the image's own tree,
 * chunk by chunk. So nothing about them need be trusted.
 *
 * @module
 */

import { type Digest, digestHex } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { readLayerBootstrap } from "../blob/layer-bootstrap.ts";
import { isOverTars, loadChunkMaps } from "../blob/load-chunk-maps.ts";
import type { NydusImage } from "../image/nydus-image.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import { isPlaceholder } from "../rafs/blob-table.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { checkImage, openImage, readTree } from "../rafs/image.ts";
import { blobsOf } from "../tree/blobs.ts";
import { diffTrees } from "../tree/diff.ts";
import { withImplicit } from "../tree/implicit.ts";
import { mergeLayers } from "../tree/overlay.ts";
import type { Directory } from "../tree/tree.ts";

export interface RestoredLayer {
  /** Whiteouts are empty files named ".wh.*", as they are in a layer. */
  readonly tree: Directory;
  /** Where its chunks are: also those that the image itself has no use for any more. */
  readonly maps: readonly ChunkMap[];
}

/** A layer, the blob that was made of it, and the bootstrap that was in there. */
export interface StoredLayer extends RestoredLayer {
  readonly blob: Descriptor;
  readonly bootstrap: Uint8Array;
}

/** @returns lowest first. @throws corrupt, unsupported when the layers cannot be restored; what the source throws */
export async function restoreLayers(
  image: NydusImage,
  options: { readonly signal?: AbortSignal } = {},
): Promise<readonly StoredLayer[]> {
  const blobs = ownLayers(image.image?.manifest.layers ?? []);
  if (blobs.length === 0) throw unsupported("it has no layers but its bootstrap");
  if (isOverTars(image.bootstrap)) throw unsupported("its files lie in the original layers' tars");
  const { fetcher } = image;
  const layers: StoredLayer[] = [];
  for (const blob of blobs) {
    const bootstrap = await readLayerBootstrap(fetcher, blob, options);
    if (bootstrap === undefined) throw unsupported(`blob "${blob.digest}" holds no bootstrap of its own`);
    layers.push(await restoredLayer(bootstrap, blob, image));
  }
  const { value } = diffTrees(image.root, mergeLayers(layers.map(({ tree }) => tree))).next();
  if (value === undefined) return layers;
  throw corrupt(`Cannot restore the layers: they differ from the image at "${value.path}"`);
}

/** A Nydus image's, without the bootstrap and what chunk dictionaries brought. */
export function ownLayers(layers: readonly Descriptor[]): readonly Descriptor[] {
  const { annotations } = layers.at(-1) ?? {};
  const brought = annotations?.[ANNOTATION.nydusReferenceBlobIds] ?? "";
  return layers
    .slice(0, -1)
    .filter(
      ({ digest, annotations: own }) =>
        !brought.includes(digestHex((own?.[ANNOTATION.nydusRef] as Digest) ?? digest)),
    );
}

function unsupported(state: string): NydusError {
  return new NydusError("unsupported", `Cannot restore the layers: ${state}`);
}

async function restoredLayer(bytes: Uint8Array, blob: Descriptor, image: NydusImage): Promise<StoredLayer> {
  const [violation] = await checkImage(bytes);
  if (violation !== undefined)
    throw corrupt(`Cannot restore layer "${blob.digest}": ${violation.path}: ${violation.message}`);
  const bootstrap = openImage(bytes);
  const { version, superblock } = image.bootstrap;
  if (bootstrap.version !== version || bootstrap.superblock.digester !== superblock.digester)
    throw unsupported(`layer "${blob.digest}" is of another kind than the image`);
  const root = readTree(bootstrap);
  const own = digestHex(blob.digest);
  for (const ref of blobsOf(root)) if (isPlaceholder(ref.id)) ref.id = own;
  const loaded = await loadChunkMaps(bootstrap, { fetcher: image.fetcher, ownId: own });
  const maps = loaded.map((map) => (isPlaceholder(map.blobId) ? { ...map, blobId: own } : map));
  return { blob, bootstrap: bytes, tree: withImplicit(root), maps };
}
