/**
 * From the chunk table to one `ChunkMap` a blob. The table is in the order of digests and is read once in that order:
 * visiting its records by address costs several times as much, in cache misses.
 *
 * @module
 */
import type { NydusError } from "../base/error.ts";
import type { BlobInfo } from "./blob-table.ts";
import { dataSize } from "./blob-table-reader.ts";
import type { Bootstrap } from "./bootstrap.ts";
import type { ChunkMap } from "./chunk-map.ts";
import { chunkRecord } from "./chunk-record.ts";
import { CHUNK_FLAGS } from "./flags.ts";
import { BLOCK_SIZE } from "./superblock.ts";
import { unreadable, unsupported } from "./superblock-reader.ts";

const R = chunkRecord.fields;
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** The chunks of one blob, and where to find one by its address. */
export interface BlobChunks {
  readonly map: ChunkMap;
  /** Uncompressed block to position in the map. */
  readonly positions: ReadonlyMap<number, number>;
  /** By position: which entry of the compression information it is. */
  readonly ordinals: Uint32Array;
}

/**
 * The chunks that the image uses of each blob, in device order. A blob may hold more: those of files that upper
 * layers hide.
 *
 * @throws corrupt when a chunk is outside its blob, larger than a chunk, or overlaps another
 */
export function chunkMaps(bootstrap: Bootstrap): ChunkMap[] {
  return readChunks(bootstrap).map(({ map }) => map);
}

/** @throws corrupt */
export function readChunks(bootstrap: Bootstrap): BlobChunks[] {
  const { view, blobs, superblock } = bootstrap;
  const { offset, size } = superblock.chunkTable;
  const blocks = blocksByBlob(bootstrap);
  const chunks = blobs.map((blob, i) => emptyChunks(blob, blocks[i] ?? []));
  // Digests are copied in words: 8 a chunk, in the byte order of the machine on both sides.
  const words = chunks.map(({ map }) => new Uint32Array(map.digests.buffer));
  for (let at = offset; at < offset + size; at += chunkRecord.size) {
    const blob = R.blob.read(view, at);
    const found = chunks[blob];
    const position = found?.positions.get(R.uncompressedOffset.read(view, at) / BLOCK_SIZE);
    const digests = words[blob];
    if (found === undefined || position === undefined || digests === undefined) continue;
    fill(found, position, view, at, superblock.chunkSize);
    for (let w = 0; w < 8; w++) digests[8 * position + w] = view.getUint32(at + 4 * w, LITTLE_ENDIAN);
  }
  for (const { map } of chunks) checkOverlap(map);
  return chunks;
}

function blocksByBlob({ view, blobs, superblock }: Bootstrap): number[][] {
  const { offset, size } = superblock.chunkTable;
  const blocks: number[][] = blobs.map(() => []);
  for (let at = offset; at < offset + size; at += chunkRecord.size) {
    const known = blocks[R.blob.read(view, at)];
    if (known === undefined) throw bad(at, "names no blob");
    const block = R.uncompressedOffset.read(view, at) / BLOCK_SIZE;
    if (!Number.isInteger(block)) throw bad(at, "is not aligned to 4096");
    if (block >= 2 ** 32) throw bad(at, "lies past the end of any blob");
    known.push(block);
  }
  return blocks;
}

function emptyChunks(blob: BlobInfo, blocks: readonly number[]): BlobChunks {
  const sorted = Uint32Array.from(blocks).sort();
  const positions = new Map<number, number>();
  for (let i = 0; i < sorted.length; i++) positions.set(sorted[i] ?? 0, i);
  if (positions.size < sorted.length) throw unreadable(`two chunks of blob ${blob.id} lie at one place`);
  return { map: emptyMap(blob, sorted.length), positions, ordinals: new Uint32Array(sorted.length) };
}

function fill({ map, ordinals }: BlobChunks, i: number, view: DataView, at: number, chunkSize: number): void {
  const flags = R.flags.read(view, at);
  if ((flags & CHUNK_FLAGS.batch) !== 0) throw unsupported("its blobs hold batches of chunks");
  if ((flags & CHUNK_FLAGS.encrypted) !== 0) throw unsupported("its blobs are encrypted");
  const start = R.uncompressedOffset.read(view, at);
  const length = R.uncompressedSize.read(view, at);
  const from = R.compressedOffset.read(view, at);
  const stored = R.compressedSize.read(view, at);
  const compressed = flags & CHUNK_FLAGS.compressed;
  if (length === 0 || length > chunkSize) throw bad(at, `has ${length} bytes`);
  if (start + length > map.uncompressedSize) throw bad(at, `lies past the end of blob ${map.blobId}`);
  if (stored === 0 || from + stored > map.compressedSize)
    throw bad(at, `is stored past the end of blob ${map.blobId}`);
  if (compressed === 0 ? stored !== length : stored > length)
    throw bad(at, `has ${stored} stored bytes for ${length}`);
  map.uncompressedOffset[i] = start;
  map.uncompressedLength[i] = length;
  map.compressedOffset[i] = from;
  map.compressedLength[i] = stored;
  map.compressed[i] = compressed;
  ordinals[i] = R.index.read(view, at);
}

function checkOverlap({ count, uncompressedOffset, uncompressedLength, blobId }: ChunkMap): void {
  let end = 0;
  for (let i = 0; i < count; i++) {
    const start = uncompressedOffset[i] ?? 0;
    if (start < end) throw unreadable(`the chunk at ${start} of blob ${blobId} overlaps another`);
    end = start + (uncompressedLength[i] ?? 0);
  }
}

function bad(at: number, state: string): NydusError {
  return unreadable(`the chunk record at ${at} ${state}`);
}

function emptyMap(blob: BlobInfo, count: number): ChunkMap {
  const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(bytes);
  return {
    blobId: blob.id,
    compressor: blob.compressor,
    digester: blob.digester,
    compressedSize: dataSize(blob),
    uncompressedSize: blob.uncompressedSize,
    count,
    uncompressedOffset: new Float64Array(shared(8 * count)),
    uncompressedLength: new Uint32Array(shared(4 * count)),
    compressedOffset: new Float64Array(shared(8 * count)),
    compressedLength: new Uint32Array(shared(4 * count)),
    compressed: new Uint8Array(shared(count)),
    digests: new Uint8Array(shared(32 * count)),
  };
}
