/** What decoding threads and their owner tell each other. @module */
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";

export interface DecodeJob {
  readonly job: number;
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  /** The stored chunks, back to back; handed over. */
  readonly stored: Uint8Array<ArrayBuffer>;
  readonly storedLengths: Uint32Array;
  /** Uncompressed. */
  readonly lengths: Uint32Array;
  /** 1 where the stored form is compressed. */
  readonly compressed: Uint8Array;
  /** 32 bytes a chunk. */
  readonly digests: Uint8Array;
}

export interface DecodedJob {
  readonly job: number;
  /** The chunks back to back; handed over. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** 1 for each chunk that is what its digest says. */
  readonly good: Uint8Array;
}
