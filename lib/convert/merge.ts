/**
 * Layers become one bootstrap. Blobs are listed in the order of their first use in the merged tree; one that nothing
 * uses any more is not listed, though it stays in the manifest.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { chunkHasher } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { writeImage } from "../rafs/image.ts";
import { mergeLayers } from "../tree/overlay.ts";
import type { BlobRef, ChunkRef, Directory } from "../tree/tree.ts";
import type { PackedContent, PackFormat } from "./packer.ts";

export interface MergeOptions extends PackFormat {
  /** Paths whose data is wanted first; by default everything is. */
  readonly prefetch?: readonly ByteString[];
}

/** @param layers lowest first; the same layer may occur more than once */
export async function mergeIntoBootstrap(
  layers: readonly PackedContent[],
  options: MergeOptions,
): Promise<Uint8Array> {
  const { fsVersion = 6, chunkSize, compressor, digester, prefetch } = options;
  const blobs = new Map<BlobRef, BlobInfo>();
  const byId = new Map<string, BlobRef>();
  for (const { blob, file, tree } of new Set(layers)) {
    const same = byId.get(blob.id);
    if (same !== undefined) referTo(same, tree, blob);
    else byId.set(blob.id, blob);
    if (file.info !== undefined) blobs.set(same ?? blob, file.info);
  }
  const reference = layers.find(({ file }) => file.original !== undefined);
  const root = mergeLayers(layers.map((layer) => layer.tree));
  return writeImage(root, {
    version: fsVersion,
    hasher: await chunkHasher(digester),
    chunkSize,
    compressor: reference?.file.info?.compressor ?? compressor,
    blobs,
    hasXattr: "always",
    ...(prefetch === undefined ? {} : { prefetch }),
  });
}

/** Different layers can make the same blob (one tar, compressed twice). A bootstrap may list it only once. */
export function referTo(blob: BlobRef, dir: Directory, instead: BlobRef): void {
  for (const node of dir.entries.values()) {
    if (node.kind === "directory") referTo(blob, node, instead);
    else if (node.kind === "file") {
      for (const chunk of node.chunks as { -readonly [K in keyof ChunkRef]: ChunkRef[K] }[])
        if (chunk.blob === instead) chunk.blob = blob;
    }
  }
}

/** @throws usage unless the format can hold chunks of this size */
export function assertChunkSize(size: number): void {
  if (size >= 4096 && size <= 2 ** 24 && (size & (size - 1)) === 0) return;
  throw new NydusError(
    "usage",
    `Cannot use chunk size ${size}: it must be a power of two from 4096 to 16777216`,
  );
}
