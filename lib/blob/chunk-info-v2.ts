/**
 * Version 2 of an entry of the compression information: 24 bytes, with flags, so that chunks may lie inside larger
 * stored units (`stored-unit.ts`) or be encrypted.
 *
 * Word 0 holds the uncompressed offset in pages (bits 0 to 31), size - 1 (32 to 55) and flags (56 to 63). Word 1 holds
 * the compressed offset (0 to 39) and size (40 to 63, not less one). Word 2 is a CRC-32C in its low half, or a unit's
 * index in its high and the offset in the unit in its low half.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { viewOf } from "../base/struct.ts";
import type { BatchPlace } from "./batches.ts";
import type { ChunkInfo } from "./compression-info.ts";

/** Bytes of one entry. */
export const ENTRY_SIZE_V2 = 24;
const PAGE = 4096;
/** 24 bits. An incompressible chunk of 16 MiB does not fit. */
export const MAX_COMPRESSED_V2 = 2 ** 24 - 1;

export const INFO_FLAGS = { compressed: 0x1, zran: 0x2, batch: 0x4, encrypted: 0x8, hasCrc: 0x10 } as const;

export interface ChunkInfoV2 extends ChunkInfo {
  /** `INFO_FLAGS` */
  readonly flags: number;
  /** Of chunks in a unit: which one, and where in what it expands to. Else 0. */
  readonly unit: number;
  readonly unitOffset: number;
  /** CRC-32C of the uncompressed chunk, of chunks in no unit; 0 = absent. */
  readonly crc: number;
}

export function readChunkInfoV2(view: DataView, at: number): ChunkInfoV2 {
  const sizeAndFlags = view.getUint32(at + 4, true);
  const high = view.getUint32(at + 12, true);
  const flags = sizeAndFlags >>> 24;
  const low = view.getUint32(at + 16, true);
  const inUnit = (flags & (INFO_FLAGS.zran | INFO_FLAGS.batch)) !== 0;
  return {
    uncompressedOffset: view.getUint32(at, true) * PAGE,
    uncompressedSize: (sizeAndFlags & 0xff_ffff) + 1,
    compressedOffset: (high & 0xff) * 2 ** 32 + view.getUint32(at + 8, true),
    compressedSize: high >>> 8,
    flags,
    unit: inUnit ? view.getUint32(at + 20, true) : 0,
    unitOffset: inUnit ? low : 0,
    crc: (flags & INFO_FLAGS.hasCrc) !== 0 ? low : 0,
  };
}

/** @throws unsupported when the chunk's stored size does not fit */
export function writeChunkInfoV2(view: DataView, at: number, chunk: ChunkInfoV2): void {
  if (chunk.compressedSize > MAX_COMPRESSED_V2)
    throw new NydusError(
      "unsupported",
      `Cannot store a chunk of ${chunk.compressedSize} bytes in this kind of blob; make chunks smaller (--chunk-size)`,
    );
  const inUnit = (chunk.flags & (INFO_FLAGS.zran | INFO_FLAGS.batch)) !== 0;
  view.setUint32(at, chunk.uncompressedOffset / PAGE, true);
  view.setUint32(at + 4, ((chunk.flags << 24) | (chunk.uncompressedSize - 1)) >>> 0, true);
  view.setUint32(at + 8, chunk.compressedOffset % 2 ** 32, true);
  view.setUint32(
    at + 12,
    ((chunk.compressedSize << 8) | Math.floor(chunk.compressedOffset / 2 ** 32)) >>> 0,
    true,
  );
  view.setUint32(at + 16, inUnit ? chunk.unitOffset : chunk.crc, true);
  view.setUint32(at + 20, inUnit ? chunk.unit : 0, true);
}

/**
 * Entries of chunks that are stored by themselves or in batches.
 *
 * @param batchOf by ordinal: the batch that a chunk lies in, if any
 */
export function encodeChunkInfosV2(
  chunks: readonly (ChunkInfo & { readonly compressed: boolean })[],
  batchOf: (ordinal: number) => (BatchPlace & { readonly start: number }) | undefined,
  encrypted: boolean,
): Uint8Array {
  const out = new Uint8Array(chunks.length * ENTRY_SIZE_V2);
  const view = viewOf(out);
  const always = encrypted ? INFO_FLAGS.encrypted : 0;
  for (const [ordinal, chunk] of chunks.entries()) {
    const at = ordinal * ENTRY_SIZE_V2;
    const batch = batchOf(ordinal);
    if (batch === undefined) {
      const flags = always | (chunk.compressed ? INFO_FLAGS.compressed : 0);
      writeChunkInfoV2(view, at, { ...chunk, flags, unit: 0, unitOffset: 0, crc: 0 });
      continue;
    }
    const { unit, offset: unitOffset, start: compressedOffset } = batch;
    const flags = always | INFO_FLAGS.compressed | INFO_FLAGS.batch;
    writeChunkInfoV2(view, at, {
      ...chunk,
      flags,
      unit,
      unitOffset,
      compressedOffset,
      compressedSize: 0,
      crc: 0,
    });
  }
  return out;
}
