/**
 * The chunks of one blob, as the data path needs them: sorted by uncompressed offset, in typed arrays on shared memory
 * so that threads read them without copies.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";

export interface ChunkMap {
  /** Hex digest of the blob: what to ask the registry for. */
  readonly blobId: string;
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  /** Bytes of the stored blob that hold chunks: every compressed range ends at or before it. */
  readonly compressedSize: number;
  /** Bytes of the blob's uncompressed address space (multiple of 4096): the size of the EROFS device. */
  readonly uncompressedSize: number;
  readonly count: number;
  /** Ascending; chunks do not overlap. Each array has `count` elements. */
  readonly uncompressedOffset: Float64Array;
  readonly uncompressedLength: Uint32Array;
  readonly compressedOffset: Float64Array;
  readonly compressedLength: Uint32Array;
  /** 1 = stored compressed. */
  readonly compressed: Uint8Array;
  /** 32 bytes a chunk. */
  readonly digests: Uint8Array;
}

/** Index of the last chunk that starts at or before `offset`, or -1. */
export function chunkAt(map: ChunkMap, offset: number): number {
  let low = -1;
  let high = map.count - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((map.uncompressedOffset[middle] ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

export function chunkDigest(map: ChunkMap, index: number): Uint8Array {
  return map.digests.subarray(index * 32, index * 32 + 32);
}
