/**
 * What a blob may hold, whatever its version.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { MAX_CHUNKS, MAX_COMPRESSED_SIZE, MAX_UNCOMPRESSED_SIZE } from "../rafs/blob-table.ts";

export interface BlobExtent {
  readonly chunks: number;
  /** Bytes of the uncompressed address space. */
  readonly uncompressedSize: number;
  /** Bytes written so far. */
  readonly storedSize: number;
}

/** @throws unsupported when a blob that is being written grows past what the formats can say */
export function assertBlobLimits({ chunks, uncompressedSize, storedSize }: BlobExtent): void {
  const past =
    chunks >= MAX_CHUNKS
      ? `${MAX_CHUNKS - 1} chunks; larger chunks would help (--chunk-size)`
      : uncompressedSize > MAX_UNCOMPRESSED_SIZE
        ? `${MAX_UNCOMPRESSED_SIZE} bytes`
        : storedSize > MAX_COMPRESSED_SIZE
          ? `${MAX_COMPRESSED_SIZE} stored bytes`
          : undefined;
  if (past !== undefined)
    throw new NydusError("unsupported", `Cannot write a layer's blob: it needs more than ${past}`);
}
