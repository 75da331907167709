/**
 * The chunk table as it is written: one record a distinct chunk, sorted by digest, then blob.
 *
 * @module
 */

import { corrupt, NydusError } from "../base/error.ts";
import type { BlobRef, ChunkRef, RegularFile } from "../tree/tree.ts";
import { chunkRecord, UNKNOWN_DIGEST } from "./chunk-record.ts";
import { CHUNK_FLAGS } from "./flags.ts";

const R = chunkRecord.fields;

export interface ChunkEntry {
  readonly chunk: ChunkRef;
  /** Position in the blob table. */
  readonly blob: number;
  readonly fileOffset: number;
  /** The digest's first six bytes as a number: sorting seldom needs to look further. */
  readonly key: number;
}

export interface TableFormat {
  readonly chunkSize: number;
  /** No chunk has a digest, and the table has one record a blob: that of its last chunk in order. */
  readonly tarfs: boolean;
}

/**
 * Where several files share a chunk, the last one in order gives the file offset, as in the reference.
 *
 * @throws corrupt when the files' sources disagree about a blob: one file would show what another has
 */
export function chunkEntries(
  files: readonly RegularFile[],
  order: ReadonlyMap<BlobRef, number>,
  { chunkSize, tarfs }: TableFormat,
): ChunkEntry[] {
  const entries = Array.from(order, () => new Map<number, ChunkEntry>());
  for (const { chunks } of files) {
    let fileOffset = 0;
    for (const chunk of chunks) {
      const blob = order.get(chunk.blob) ?? 0;
      const number = tarfs ? 0 : chunk.index;
      const known = tarfs ? undefined : entries[blob]?.get(number)?.chunk;
      if (known !== undefined && known !== chunk && Buffer.compare(known.digest, chunk.digest) !== 0)
        throw corrupt(
          `Cannot write the bootstrap: there are two accounts of chunk ${chunk.index} of blob "${chunk.blob.id}"`,
        );
      entries[blob]?.set(number, { chunk, blob, fileOffset, key: prefixOf(chunk.digest) });
      fileOffset += chunkSize;
    }
  }
  return entries.flatMap((map) => [...map.values()]).sort(compare);
}

function prefixOf(digest: Uint8Array): number {
  let prefix = 0;
  for (let i = 0; i < 6; i++) prefix = prefix * 256 + (digest[i] ?? 0);
  return prefix;
}

function compare(a: ChunkEntry, b: ChunkEntry): number {
  if (a.key !== b.key) return a.key - b.key;
  return Buffer.compare(a.chunk.digest, b.chunk.digest) || a.blob - b.blob || a.chunk.index - b.chunk.index;
}

/** @throws unsupported for chunks out of bootstraps that do not tell their digests */
export function assertDigest({ digest, index, blob }: ChunkRef): void {
  if (digest !== UNKNOWN_DIGEST) return;
  throw new NydusError(
    "unsupported",
    `Cannot write the bootstrap: chunk ${index} of blob "${blob.id}" comes from a bootstrap without its digest`,
  );
}

/**
 * Into zeros, field by field: there are as many records as files.
 *
 * @param encrypted by position in the blob table
 */
export function writeChunkTable(
  view: DataView,
  offset: number,
  entries: readonly ChunkEntry[],
  encrypted: readonly boolean[],
): void {
  let at = offset;
  for (const { chunk, blob, fileOffset } of entries) {
    const flags =
      (chunk.compressed ? CHUNK_FLAGS.compressed : 0) |
      (chunk.crc !== 0 ? CHUNK_FLAGS.hasCrc : 0) |
      (encrypted[blob] === true ? CHUNK_FLAGS.encrypted : 0);
    R.digest.write(view, at, chunk.digest);
    R.blob.write(view, at, blob);
    R.flags.write(view, at, flags);
    R.compressedSize.write(view, at, chunk.compressedSize);
    R.uncompressedSize.write(view, at, chunk.uncompressedSize);
    R.compressedOffset.write(view, at, chunk.compressedOffset);
    R.uncompressedOffset.write(view, at, chunk.uncompressedOffset);
    R.fileOffset.write(view, at, fileOffset);
    R.index.write(view, at, chunk.index);
    R.crc.write(view, at, chunk.crc);
    at += chunkRecord.size;
  }
}
