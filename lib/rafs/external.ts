/**
 * External blobs: files that somebody else made and keeps, such as an AI model's, which a bootstrap refers into. Their
 * chunks lie side by side anywhere, not at multiples of a block, so that a chunk index cannot say where one begins: its
 * record in the chunk table does. Readers get an equivalent bootstrap, in which each chunk has a block of its own.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import type { BlobRef, ChunkRef, Directory } from "../tree/tree.ts";
import type { BlobInfo } from "./blob-table.ts";
import { Bootstrap } from "./bootstrap.ts";
import { checkStructure, type Examination, examineBootstrap } from "./check.ts";
import type { BlobChunks } from "./chunk-maps.ts";
import { chunkRecord } from "./chunk-record.ts";
import { BLOB_FEATURES, CHUNK_FLAGS, SUPERBLOCK_FLAGS } from "./flags.ts";
import { BLOCK_SIZE } from "./superblock.ts";
import { unreadable } from "./superblock-reader.ts";
import { readTree } from "./tree-reader.ts";
import { writeBootstrap } from "./writer.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export function isExternal({ features }: Pick<BlobInfo, "features">): boolean {
  return (features & BLOB_FEATURES.external) !== 0;
}

/** Of the blobs of a bootstrap of either version. */
export function hasExternalBlobs(image: Pick<Bootstrap, "blobs"> | { readonly version: 5 }): boolean {
  return "blobs" in image && image.blobs.some((blob) => "features" in blob && isExternal(blob));
}

/** @returns undefined for a bootstrap that can be examined as it is */
export function examineExternal(bytes: Uint8Array): Examination | undefined {
  if (!isUnaligned(bytes)) return undefined;
  const violations = checkStructure(bytes);
  if (violations.length > 0) return { violations, chunkTableComplete: false };
  try {
    return examineBootstrap(aligned(bytes));
  } catch (error) {
    if (!(error instanceof NydusError)) throw error;
    const message = error.message.replace(/^Cannot read the bootstrap: /, "");
    return { violations: [{ path: "", offset: 0, message }], chunkTableComplete: false };
  }
}

/**
 * The bootstrap itself, or, where chunks of external blobs are not aligned, an equivalent one.
 *
 * @throws corrupt, unsupported
 */
export function withAlignedChunks(bytes: Uint8Array): Uint8Array {
  if (!isUnaligned(bytes)) return bytes;
  // Walking a tree of which nothing is known could take for ever.
  const [violation] = checkStructure(bytes);
  if (violation !== undefined) throw unreadable(`${violation.path}: ${violation.message}`);
  return aligned(bytes);
}

function isUnaligned(bytes: Uint8Array): boolean {
  try {
    const { blobs } = new Bootstrap(bytes);
    return blobs.some((blob) => isExternal(blob) && (blob.features & BLOB_FEATURES.aligned) === 0);
  } catch (error) {
    // The examination will say what is wrong.
    if (error instanceof NydusError) return false;
    throw error;
  }
}

/** For a bootstrap whose structure is sound. @throws corrupt */
function aligned(bytes: Uint8Array): Uint8Array {
  const image = new Bootstrap(bytes);
  const root = readTree(image);
  const infos = new Map(image.blobs.map((blob) => [blob.id, blob]));
  const sizes = placeChunks(root, infos);
  const { flags } = image.superblock;
  return writeBootstrap(root, {
    ...image.superblock,
    explicitOwner: (flags & SUPERBLOCK_FLAGS.explicitOwner) !== 0,
    hasXattr: (flags & SUPERBLOCK_FLAGS.hasXattr) !== 0 ? "always" : "found",
    prefetch: [],
    blobs: (ref) => {
      const info = infos.get(ref.id);
      const size = sizes.get(ref);
      if (info === undefined || size === undefined) return info;
      return { ...info, features: info.features | BLOB_FEATURES.aligned, uncompressedSize: size };
    },
  });
}

/**
 * Gives chunks of external blobs an address each, in the order of their numbers.
 *
 * @returns the size of each such blob's address space
 */
function placeChunks(root: Directory, infos: ReadonlyMap<string, BlobInfo>): Map<BlobRef, number> {
  const byBlob = new Map<BlobRef, Set<Mutable<ChunkRef>>>();
  for (const chunk of chunksIn(root)) {
    const info = infos.get(chunk.blob.id);
    if (info === undefined || !isExternal(info)) continue;
    const known = byBlob.get(chunk.blob) ?? new Set();
    byBlob.set(chunk.blob, known.add(chunk));
  }
  return new Map(Array.from(byBlob, ([blob, chunks]) => [blob, placeSideBySide([...chunks])]));
}

function placeSideBySide(chunks: Mutable<ChunkRef>[]): number {
  let end = 0;
  for (const chunk of chunks.sort((a, b) => a.index - b.index)) {
    if (chunk.compressedOffset !== chunk.uncompressedOffset)
      throw unreadable(`chunk ${chunk.index} of external blob ${chunk.blob.id} is at two places in it`);
    chunk.uncompressedOffset = end;
    end = alignUp(end + chunk.uncompressedSize, BLOCK_SIZE);
  }
  return end;
}

function* chunksIn(dir: Directory): Generator<Mutable<ChunkRef>> {
  for (const node of dir.entries.values()) {
    if (node.kind === "directory") yield* chunksIn(node);
    else if (node.kind === "file") yield* node.chunks;
  }
}

const R = chunkRecord.fields;

/** CRC-32C of each chunk of a blob, by position in its map; undefined where the chunk table has none. */
export function chunkChecksums(
  { view, superblock }: Bootstrap,
  blob: number,
  { map, positions }: BlobChunks,
): readonly (number | undefined)[] {
  const found = new Array<number | undefined>(map.count).fill(undefined);
  const { offset, size } = superblock.chunkTable;
  for (let at = offset; at < offset + size; at += chunkRecord.size) {
    if (R.blob.read(view, at) !== blob || (R.flags.read(view, at) & CHUNK_FLAGS.hasCrc) === 0) continue;
    const position = positions.get(R.uncompressedOffset.read(view, at) / BLOCK_SIZE);
    if (position !== undefined) found[position] = R.crc.read(view, at);
  }
  return found;
}
