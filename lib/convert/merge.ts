/**
 * Layers become one bootstrap. Blobs are listed in the order of their first use in the merged tree; one that nothing
 * uses any more is not listed, though it stays in the manifest.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { chunkHasher } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { Dictionary } from "../blob/dictionary.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { writeImage } from "../rafs/image.ts";
import { mergeLayers } from "../tree/overlay.ts";
import { selectPaths } from "../tree/select-paths.ts";
import type { BlobRef, ChunkRef, Directory } from "../tree/tree.ts";
import type { PackedContent, PackFormat } from "./packer.ts";

export interface MergeOptions extends PackFormat {
  /** Knows the blobs that are not the layers' own. */
  readonly dictionary?: Dictionary;
  /** Paths and patterns of what is wanted first; by default everything is. */
  readonly prefetch?: readonly ByteString[];
}

export interface MergedImage {
  readonly bootstrap: Uint8Array;
  /** Of `prefetch`: what the image has nothing for. */
  readonly unmatched: readonly ByteString[];
}

/** @param layers lowest first; the same layer may occur more than once */
export async function mergeIntoBootstrap(
  layers: readonly PackedContent[],
  options: MergeOptions,
): Promise<MergedImage> {
  const { fsVersion = 6, chunkSize, compressor, digester, dictionary, prefetch, tarfs = false } = options;
  const infos = new Map<string, BlobInfo>();
  for (const { blob, file } of layers) if (file.info !== undefined) infos.set(blob.id, file.info);
  uniteBlobs(layers, dictionary !== undefined);
  const reference = layers.find(({ file }) => file.original !== undefined);
  const root = mergeLayers(layers.map((layer) => layer.tree));
  const selected = prefetch && selectPaths(root, prefetch);
  const bootstrap = writeImage(root, {
    version: fsVersion,
    hasher: await chunkHasher(digester),
    chunkSize,
    tarfs,
    compressor: reference?.file.info?.compressor ?? compressor,
    blobs: (blob) => infos.get(blob.id) ?? dictionary?.info(blob),
    hasXattr: "always",
    ...(selected === undefined ? {} : { prefetch: selected.paths }),
  });
  return { bootstrap, unmatched: selected?.unmatched ?? [] };
}

/** For a bootstrap may list a blob only once. */
export function referTo(blob: BlobRef, dir: Directory, instead: BlobRef): void {
  for (const chunk of chunksIn(dir)) if (chunk.blob === instead) chunk.blob = blob;
}

/**
 * Different layers can make the same blob (one tar, compressed twice), and each brings its own `BlobRef` of a
 * dictionary's.
 */
function uniteBlobs(layers: readonly PackedContent[], always: boolean): void {
  const distinct = new Set(layers);
  const one = new Map<string, BlobRef>();
  for (const { blob } of distinct) if (!one.has(blob.id)) one.set(blob.id, blob);
  if (!always && one.size === distinct.size) return;
  for (const { tree } of distinct) {
    for (const chunk of chunksIn(tree)) {
      const known = one.get(chunk.blob.id);
      if (known === undefined) one.set(chunk.blob.id, chunk.blob);
      else chunk.blob = known;
    }
  }
}

function* chunksIn(dir: Directory): Generator<{ -readonly [K in keyof ChunkRef]: ChunkRef[K] }> {
  for (const node of dir.entries.values()) {
    if (node.kind === "directory") yield* chunksIn(node);
    else if (node.kind === "file") yield* node.chunks;
  }
}

/** Bytes. */
const MIN_CHUNK = 4096;
const MAX_CHUNK = 2 ** 24;

/** @throws usage unless blobs can be made so */
export function assertFormat({ chunkSize, batchSize, encrypt = false }: PackFormat): void {
  const bad = (what: string, size: number, state: string): never => {
    throw new NydusError("usage", `Cannot use ${what} ${size}: ${state}`);
  };
  if (!isPowerOfTwo(chunkSize) || chunkSize < MIN_CHUNK || chunkSize > MAX_CHUNK)
    bad("chunk size", chunkSize, `it must be a power of two from ${MIN_CHUNK} to ${MAX_CHUNK}`);
  if (batchSize !== undefined && (!isPowerOfTwo(batchSize) || batchSize > chunkSize))
    bad("batch size", batchSize, `it must be a power of two, at most the chunk size ${chunkSize}`);
  // Entries of such blobs have 24 bits for the stored size.
  if ((batchSize !== undefined || encrypt) && chunkSize === MAX_CHUNK)
    bad("chunk size", chunkSize, `with batches or encryption it is at most ${MAX_CHUNK / 2}`);
}

function isPowerOfTwo(size: number): boolean {
  return Number.isSafeInteger(size) && size > 0 && Number.isInteger(Math.log2(size));
}
