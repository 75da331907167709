/**
 * Which files hold a chunk.
 *
 * @module
 */
import { printable } from "../base/byte-string.ts";
import type { NydusImage } from "../image/nydus-image.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { chunkAddress } from "../rafs/image.ts";
import { visits } from "../tree/walk.ts";

/** A chunk by its blob and its position in the blob's map. */
export interface ChunkName {
  readonly blob: string;
  readonly chunk?: number;
}

/** Many files can hold the chunk of zeros. */
const MAX_PATHS = 10;

/** For each chunk asked for, paths in the order of the tree, at most ten. */
export function pathsOfChunks<T extends ChunkName>(
  image: NydusImage,
  chunkMaps: readonly ChunkMap[],
  wanted: readonly T[],
): ReadonlyMap<T, readonly string[]> {
  const maps = new Map(chunkMaps.map((map) => [map.blobId, map]));
  const found = new Map<T, string[]>();
  const byAddress = new Map<string, string[]>();
  for (const name of wanted) {
    if (name.chunk === undefined) continue;
    const key = `${name.blob}:${maps.get(name.blob)?.uncompressedOffset[name.chunk]}`;
    const paths = byAddress.get(key) ?? [];
    byAddress.set(key, paths);
    found.set(name, paths);
  }
  if (byAddress.size === 0) return found;
  for (const visit of visits(image.root)) {
    if (visit.kind === "leave" || visit.node.kind !== "file") continue;
    for (const chunk of visit.node.chunks) {
      const paths = byAddress.get(`${chunk.blob.id}:${chunkAddress(image.bootstrap, chunk)}`);
      const path = `/${printable(visit.path)}`;
      if (paths !== undefined && paths.length < MAX_PATHS && paths.at(-1) !== path) paths.push(path);
    }
  }
  return found;
}
