/**
 * The layers that an image was made of, restored from the bootstraps inside its blobs: what upper layers hide comes
 * back, and whiteouts with it.
 *
 * Those bootstraps are only as good as what they give: laid over each other they must be exactly the image's own tree,
 * chunk by chunk. So nothing about them need be trusted.
 *
 * @module
 */

import { digestHex } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { readLayerBootstrap } from "../blob/layer-bootstrap.ts";
import { loadChunkMaps } from "../blob/load-chunk-maps.ts";
import type { NydusImage } from "../image/nydus-image.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { checkImage, openImage, readTree } from "../rafs/image.ts";
import { diffTrees } from "../tree/diff.ts";
import { mergeLayers } from "../tree/overlay.ts";
import { type Attributes, type BlobRef, type Directory, IMPLICIT_DIRECTORY } from "../tree/tree.ts";

export interface RestoredLayer {
  /** Whiteouts are empty files named ".wh.*", as they are in a layer. */
  readonly tree: Directory;
  /** Where its chunks are: also those that the image itself has no use for any more. */
  readonly maps: readonly ChunkMap[];
}

/** @returns lowest first. @throws corrupt, unsupported when the layers cannot be restored; what the source throws */
export async function restoreLayers(
  image: NydusImage,
  options: { readonly signal?: AbortSignal } = {},
): Promise<readonly RestoredLayer[]> {
  const blobs = image.image?.manifest.layers.slice(0, -1) ?? [];
  if (blobs.length === 0) throw unsupported("it has no layers but its bootstrap");
  const { fetcher } = image;
  const layers: RestoredLayer[] = [];
  for (const blob of blobs) {
    const bootstrap = await readLayerBootstrap(fetcher, blob, options);
    if (bootstrap === undefined) throw unsupported(`blob "${blob.digest}" holds no bootstrap of its own`);
    layers.push(await restoredLayer(bootstrap, blob, image));
  }
  const { value } = diffTrees(image.root, mergeLayers(layers.map(({ tree }) => tree))).next();
  if (value === undefined) return layers;
  throw corrupt(`Cannot restore the layers: they differ from the image at "${value.path}"`);
}

function unsupported(state: string): NydusError {
  return new NydusError("unsupported", `Cannot restore the layers: ${state}`);
}

/** A bootstrap inside a blob cannot know the blob's digest: 64 times "x" stands for it. */
const PLACEHOLDER = /^x+$/;

async function restoredLayer(bytes: Uint8Array, blob: Descriptor, image: NydusImage): Promise<RestoredLayer> {
  const [violation] = await checkImage(bytes);
  if (violation !== undefined)
    throw corrupt(`Cannot restore layer "${blob.digest}": ${violation.path}: ${violation.message}`);
  const bootstrap = openImage(bytes);
  const { version, superblock } = image.bootstrap;
  if (bootstrap.version !== version || bootstrap.superblock.digester !== superblock.digester)
    throw unsupported(`layer "${blob.digest}" is of another kind than the image`);
  const root = readTree(bootstrap);
  const own = digestHex(blob.digest);
  for (const ref of blobsOf(root)) if (PLACEHOLDER.test(ref.id)) ref.id = own;
  const loaded = await loadChunkMaps(bootstrap, { fetcher: image.fetcher, ownId: own });
  const maps = loaded.map((map) => (PLACEHOLDER.test(map.blobId) ? { ...map, blobId: own } : map));
  return { tree: withImplicit(root), maps };
}

function blobsOf(root: Directory): ReadonlySet<BlobRef> {
  const blobs = new Set<BlobRef>();
  const waiting = [root];
  for (let dir = waiting.pop(); dir !== undefined; dir = waiting.pop()) {
    for (const node of dir.entries.values()) {
      if (node.kind === "directory") waiting.push(node);
      else if (node.kind === "file") for (const { blob } of node.chunks) blobs.add(blob);
    }
  }
  return blobs;
}

/**
 * A bootstrap does not tell which directories its layer did not mention. Those that look like it are taken for such: a
 * wrong guess shows when the layers are compared with the image.
 */
function withImplicit(dir: Directory): Directory {
  const entries: Directory["entries"] = new Map();
  for (const [name, node] of dir.entries)
    entries.set(name, node.kind === "directory" ? withImplicit(node) : node);
  return { ...dir, implicit: dir.entries.size > 0 && looksImplicit(dir.attributes), entries };
}

function looksImplicit({ mode, uid, gid, mtime, mtimeNs, xattrs }: Attributes): boolean {
  const plain = IMPLICIT_DIRECTORY;
  return (
    mode === plain.mode &&
    uid === plain.uid &&
    gid === plain.gid &&
    mtime === plain.mtime &&
    mtimeNs === plain.mtimeNs &&
    xattrs.size === 0
  );
}
