/**
 * The chunk table as it is written: one record a distinct chunk, sorted by digest, then blob.
 *
 * @module
 */
import { byteString } from "../base/byte-string.ts";
import type { BlobRef, ChunkRef, RegularFile } from "../tree/tree.ts";
import { chunkRecord } from "./chunk-record.ts";
import { CHUNK_FLAGS } from "./flags.ts";

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

export function writeChunkTable(view: DataView, offset: number, entries: readonly ChunkEntry[]): void {
  entries.forEach(({ chunk, blob, fileOffset }, i) => {
    chunkRecord.write(view, offset + i * chunkRecord.size, {
      digest: chunk.digest,
      blob,
      flags: (chunk.compressed ? CHUNK_FLAGS.compressed : 0) | (chunk.crc !== 0 ? CHUNK_FLAGS.hasCrc : 0),
      compressedSize: chunk.compressedSize,
      uncompressedSize: chunk.uncompressedSize,
      compressedOffset: chunk.compressedOffset,
      uncompressedOffset: chunk.uncompressedOffset,
      fileOffset,
      index: chunk.index,
      crc: chunk.crc,
    });
  });
}
