/**
 * Chunk compressors of RAFS: one chunk in, one stored chunk out. The output size is known from metadata, so a
 * decompressed chunk of any other size is corrupt.
 *
 * @module
 */
import {
  compressSync as lz4Compress,
  compress as lz4CompressInPool,
  uncompressSync as lz4Decompress,
} from "lz4-napi";
import { corrupt, toNydusError } from "./error.ts";

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

/** @throws corrupt when the result is not exactly `size` bytes */
export function decompressChunk(compressor: Compressor, stored: Uint8Array, size: number): Uint8Array {
  let chunk: Uint8Array;
  try {
    chunk = decompress(compressor, stored, size);
  } catch (error) {
    throw corrupt(
      `Cannot decompress a chunk (${compressor}, ${stored.byteLength} bytes): ${toNydusError(error, "").message}`,
    );
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
      assertZstdSize(stored, size);
      return Bun.zstdDecompressSync(stored as Uint8Array<ArrayBuffer>);
    case "lz4_block": {
      const sized = Buffer.allocUnsafe(4 + stored.byteLength);
      sized.writeUInt32LE(size, 0);
      sized.set(stored, 4);
      return lz4Decompress(sized);
    }
    case "gzip":
      return Bun.gunzipSync(stored as Uint8Array<ArrayBuffer>);
  }
}

/**
 * A hostile frame may claim or expand to any size, so the content size in its header (RFC 8878 3.1.1.1) is compared
 * before anything is allocated; a frame without one is refused by its window instead.
 */
function assertZstdSize(stored: Uint8Array, size: number): void {
  if (
    stored.byteLength < 6 ||
    stored[0] !== 0x28 ||
    stored[1] !== 0xb5 ||
    stored[2] !== 0x2f ||
    stored[3] !== 0xfd
  ) {
    throw corrupt("not a zstd frame");
  }
  const descriptor = stored[4] ?? 0;
  const singleSegment = (descriptor >> 5) & 1;
  const code = descriptor >> 6;
  const width = code === 0 ? singleSegment : 1 << code;
  if (width === 0) return;
  const at = 5 + (singleSegment ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0);
  if (at + width > stored.byteLength) throw corrupt("the zstd frame header is cut short");
  let claimed = 0;
  for (let i = width - 1; i >= 0; i--) claimed = claimed * 256 + (stored[at + i] ?? 0);
  if (width === 2) claimed += 256;
  if (claimed !== size) throw corrupt(`the zstd frame holds ${claimed} bytes`);
}
