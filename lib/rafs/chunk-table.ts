/**
 * The chunk table as it is written: one record a distinct chunk, sorted by digest, then blob.
 *
 * @module
 */
import { byteString } from "../base/byte-string.ts";
import type { BlobRef, ChunkRef, RegularFile } from "../tree/tree.ts";
import { chunkRecord } from "./chunk-record.ts";
import { CHUNK_FLAGS } from "./flags.ts";

const R = chunkRecord.fields;

export interface ChunkEntry {
  readonly chunk: ChunkRef;
  /** Position in the blob table. */
  readonly blob: number;
  readonly fileOffset: number;
  /** Sorts as the table is to be sorted. */
  readonly key: string;
}

/** Where several files share a chunk, the last one in order gives the file offset, as in the reference. */
export function chunkEntries(
  files: readonly RegularFile[],
  order: ReadonlyMap<BlobRef, number>,
  chunkSize: number,
): ChunkEntry[] {
  const entries = new Map<string, ChunkEntry>();
  for (const file of files) {
    file.chunks.forEach((chunk, i) => {
      const blob = order.get(chunk.blob) ?? 0;
      const place = String.fromCharCode(blob, chunk.index >> 16, chunk.index & 0xffff);
      const key = byteString(chunk.digest) + place;
      entries.set(key, { chunk, blob, fileOffset: i * chunkSize, key });
    });
  }
  return [...entries.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** Into zeros, field by field: there are as many records as files. */
export function writeChunkTable(view: DataView, offset: number, entries: readonly ChunkEntry[]): void {
  let at = offset;
  for (const { chunk, blob, fileOffset } of entries) {
    const flags =
      (chunk.compressed ? CHUNK_FLAGS.compressed : 0) | (chunk.crc !== 0 ? CHUNK_FLAGS.hasCrc : 0);
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
