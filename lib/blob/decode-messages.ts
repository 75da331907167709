/** What decoding threads and their owner tell each other. @module */
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";

export interface DecodeJob {
  readonly job: number;
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  /** The stored chunks, back to back, and behind them room for what they expand to. */
  readonly slab: SharedArrayBuffer;
  readonly storedLengths: Uint32Array;
  /** Uncompressed. */
  readonly lengths: Uint32Array;
  /** 1 where the stored form is compressed. */
  readonly compressed: Uint8Array;
  /** 32 bytes a chunk. */
  readonly digests: Uint8Array;
}

/** The expanded chunks lie in the slab, back to back. */
export interface DecodedJob {
  readonly job: number;
  /** 1 for each chunk that is what its digest says. */
  readonly good: Uint8Array;
}

export function total(lengths: Uint32Array): number {
  return lengths.reduce((sum, length) => sum + length, 0);
}
