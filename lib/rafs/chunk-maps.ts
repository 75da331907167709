/**
 * From the chunk table to one `ChunkMap` a blob.
 *
 * @module
 */
import type { BlobInfo } from "./blob-table.ts";
import { dataSize } from "./blob-table-reader.ts";
import type { Bootstrap } from "./bootstrap.ts";
import type { ChunkMap } from "./chunk-map.ts";
import { chunkRecord } from "./chunk-record.ts";
import { CHUNK_FLAGS } from "./flags.ts";
import { BLOCK_SIZE } from "./superblock.ts";
import { unreadable, unsupported } from "./superblock-reader.ts";

const R = chunkRecord.fields;

/**
 * The chunks that the image uses of each blob, in device order. A blob may hold more: those of files that upper
 * layers hide.
 *
 * @throws corrupt when a chunk is outside its blob, larger than a chunk, or overlaps another
 */
export function chunkMaps(bootstrap: Bootstrap): ChunkMap[] {
  const { view, blobs, superblock } = bootstrap;
  const { offset, size } = superblock.chunkTable;
  const records: number[][] = blobs.map(() => []);
  for (let at = offset; at < offset + size; at += chunkRecord.size) {
    const found = records[R.blob.read(view, at)];
    if (found === undefined) throw unreadable(`the chunk record at ${at} names no blob`);
    found.push(at);
  }
  return blobs.map((blob, i) => chunkMap(view, blob, records[i] ?? [], superblock.chunkSize));
}

function chunkMap(view: DataView, blob: BlobInfo, records: number[], chunkSize: number): ChunkMap {
  const position = new Map(records.map((at) => [at, R.uncompressedOffset.read(view, at)]));
  records.sort((a, b) => (position.get(a) ?? 0) - (position.get(b) ?? 0));
  const map = emptyMap(blob, records.length);
  let end = 0;
  records.forEach((at, i) => {
    const start = R.uncompressedOffset.read(view, at);
    if (start < end) throw unreadable(`the chunk record at ${at} overlaps another chunk of blob ${blob.id}`);
    fill(map, i, view, at);
    checkRecord(map, i, at, chunkSize);
    end = start + R.uncompressedSize.read(view, at);
  });
  return map;
}

function fill(map: ChunkMap, i: number, view: DataView, at: number): void {
  const flags = R.flags.read(view, at);
  if ((flags & CHUNK_FLAGS.batch) !== 0) throw unsupported("its blobs hold batches of chunks");
  if ((flags & CHUNK_FLAGS.encrypted) !== 0) throw unsupported("its blobs are encrypted");
  map.uncompressedOffset[i] = R.uncompressedOffset.read(view, at);
  map.uncompressedLength[i] = R.uncompressedSize.read(view, at);
  map.compressedOffset[i] = R.compressedOffset.read(view, at);
  map.compressedLength[i] = R.compressedSize.read(view, at);
  map.compressed[i] = flags & CHUNK_FLAGS.compressed;
  map.digests.set(R.digest.read(view, at), i * 32);
}

function checkRecord(map: ChunkMap, i: number, at: number, chunkSize: number): void {
  const bad = (state: string): never => {
    throw unreadable(`the chunk record at ${at} ${state}`);
  };
  const [start = 0, length = 0] = [map.uncompressedOffset[i], map.uncompressedLength[i]];
  const [from = 0, stored = 0] = [map.compressedOffset[i], map.compressedLength[i]];
  if (start % BLOCK_SIZE !== 0) bad("is not aligned to 4096");
  if (length === 0 || length > chunkSize) bad(`has ${length} bytes`);
  if (start + length > map.uncompressedSize) bad(`lies past the end of blob ${map.blobId}`);
  if (stored === 0 || from + stored > map.compressedSize) bad(`is stored past the end of blob ${map.blobId}`);
  if (map.compressed[i] === 0 ? stored !== length : stored > length)
    bad(`has ${stored} stored bytes for ${length}`);
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
