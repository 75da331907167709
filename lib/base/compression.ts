/**
 * Chunk compressors of RAFS: one chunk in, one stored chunk out. The output size is known from metadata, so a
 * decompressed chunk of any other size is corrupt, and nothing is decompressed past it (a frame may claim or expand to
 * any size).
 *
 * @module
 */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import {
  compressSync as lz4Compress,
  compress as lz4CompressInPool,
  uncompressSync as lz4Decompress,
} from "lz4-napi";
import { corrupt } from "./error.ts";

/** Numbers are those on disk. */
export const COMPRESSORS = { none: 0, lz4_block: 1, gzip: 2, zstd: 3 } as const;
export type Compressor = keyof typeof COMPRESSORS;

/** The reference's level; one frame a chunk, content size in the header, no checksum. */
const ZSTD_LEVEL = 3;

/** The stored form of a chunk, or undefined when compressing does not make it smaller. */
export function compressChunk(compressor: Compressor, chunk: Uint8Array): Uint8Array | undefined {
  const stored = compress(compressor, chunk);
  return stored.byteLength < chunk.byteLength ? stored : undefined;
}

/** The same bytes, made on the runtime's thread pool. The chunk must not change meanwhile. */
export async function compressChunkInPool(
  compressor: Compressor,
  chunk: Uint8Array,
): Promise<Uint8Array | undefined> {
  const stored = await compressInPool(compressor, chunk);
  return stored.byteLength < chunk.byteLength ? stored : undefined;
}

async function compressInPool(compressor: Compressor, chunk: Uint8Array): Promise<Uint8Array> {
  switch (compressor) {
    case "zstd":
      return Bun.zstdCompress(chunk as Uint8Array<ArrayBuffer>, { level: ZSTD_LEVEL });
    case "lz4_block":
      return (
        await lz4CompressInPool(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
      ).subarray(4);
    default:
      return compress(compressor, chunk);
  }
}

function compress(compressor: Compressor, chunk: Uint8Array): Uint8Array {
  switch (compressor) {
    case "none":
      return chunk;
    case "zstd":
      return Bun.zstdCompressSync(chunk as Uint8Array<ArrayBuffer>, { level: ZSTD_LEVEL });
    case "lz4_block":
      // lz4-napi puts the size (u32) in front; the format has none.
      return lz4Compress(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)).subarray(4);
    case "gzip":
      return Bun.gzipSync(chunk as Uint8Array<ArrayBuffer>);
  }
}

/** No byte of an lz4 block stands for more: a match length grows by at most 255 a byte. */
const MAX_LZ4_GAIN = 255;

/** Output comes in one piece, so that nothing has to be put together; node:zlib allows no smaller ones. */
const LEAST_PIECE = 64;

/** @throws corrupt when the result is not exactly `size` bytes */
export function decompressChunk(compressor: Compressor, stored: Uint8Array, size: number): Uint8Array {
  let chunk: Uint8Array;
  try {
    chunk = decompress(compressor, stored, size);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw corrupt(`Cannot decompress a chunk (${compressor}, ${stored.byteLength} bytes): ${reason}`, {
      cause,
    });
  }
  if (chunk.byteLength === size) return chunk;
  throw corrupt(
    `Cannot decompress a chunk (${compressor}): it has ${chunk.byteLength} bytes instead of ${size}`,
  );
}

function decompress(compressor: Compressor, stored: Uint8Array, size: number): Uint8Array {
  switch (compressor) {
    case "none":
      return stored;
    case "zstd":
      return zstdDecompressSync(stored, { maxOutputLength: size, chunkSize: Math.max(size, LEAST_PIECE) });
    case "lz4_block": {
      // It allocates all of it at once.
      if (size > MAX_LZ4_GAIN * (stored.byteLength + 1))
        throw new RangeError(`${stored.byteLength} bytes of lz4 cannot be ${size}`);
      const sized = Buffer.allocUnsafe(4 + stored.byteLength);
      sized.writeUInt32LE(size, 0);
      sized.set(stored, 4);
      return lz4Decompress(sized);
    }
    case "gzip":
      return gunzipSync(stored, { maxOutputLength: size, chunkSize: Math.max(size, LEAST_PIECE) });
  }
}
