/**
 * From the chunk table to one `ChunkMap` a blob. The table is in the order of digests and is read once in that order:
 * visiting its records by address costs several times as much, in cache misses.
 *
 * @module
 */
import type { NydusError } from "../base/error.ts";
import type { BlobInfo } from "./blob-table.ts";
import { dataSize, UNIT_FEATURES } from "./blob-table-reader.ts";
import type { Bootstrap } from "./bootstrap.ts";
import { BrokenRule, type Complain, refuse } from "./broken-rule.ts";
import { type ChunkMap, emptyChunkMap } from "./chunk-map.ts";
import { chunkRecord } from "./chunk-record.ts";
import { CHUNK_FLAGS } from "./flags.ts";
import { BLOCK_SIZE } from "./superblock.ts";

const R = chunkRecord.fields;

/** The chunks of one blob, and where to find one by its address. */
export interface BlobChunks {
  /** Of a blob with units, places in the stored blob are not known from here: see `lib/blob/load-chunk-maps.ts`. */
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
export function readChunks(bootstrap: Bootstrap, complain: Complain = refuse): BlobChunks[] {
  const { view, bytes, blobs, superblock } = bootstrap;
  const { offset } = superblock.chunkTable;
  let sound = true;
  const note: Complain = (broken) => {
    sound = false;
    complain(broken);
  };
  const places = readPlaces(bootstrap, note);
  const blocks = blocksByBlob(places, blobs.length);
  const chunks = blobs.map((blob, i) => emptyChunks(blob, blocks[i] ?? new Uint32Array()));
  for (const { map, positions } of chunks)
    if (positions.size < map.count)
      note(new BrokenRule(offset, `two chunks of blob ${map.blobId} lie at one place`));
  for (let r = 0; r < places.blob.length; r++) {
    const at = offset + r * chunkRecord.size;
    const found = chunks[places.blob[r] ?? 0];
    const position = found?.positions.get(places.block[r] ?? 0);
    if (found === undefined || position === undefined) continue;
    const blob = blobs[places.blob[r] ?? 0];
    if (blob !== undefined) fill(found, position, blob, { view, at, chunkSize: superblock.chunkSize, note });
    found.map.digests.set(bytes.subarray(at, at + 32), 32 * position);
  }
  // What was not filled in would overlap.
  if (sound) for (const { map } of chunks) checkOverlap(map, offset, complain);
  return chunks;
}

/** Blob and uncompressed block of each record, in the order of the table. */
interface Places {
  readonly blob: Uint8Array;
  readonly block: Uint32Array;
}

/** Stands for the blob of a record that is not used. */
const NO_BLOB = 255;

function readPlaces({ view, blobs, superblock }: Bootstrap, complain: Complain): Places {
  const { offset, size } = superblock.chunkTable;
  const count = size / chunkRecord.size;
  const places = { blob: new Uint8Array(count), block: new Uint32Array(count) };
  for (let r = 0; r < count; r++) {
    const at = offset + r * chunkRecord.size;
    const blob = R.blob.read(view, at);
    const block = R.uncompressedOffset.read(view, at) / BLOCK_SIZE;
    places.blob[r] = NO_BLOB;
    if (blob >= blobs.length) complain(bad(at, "names no blob"));
    else if (!Number.isInteger(block)) complain(bad(at, "is not aligned to 4096"));
    else if (block >= 2 ** 32) complain(bad(at, "lies past the end of any blob"));
    else {
      places.blob[r] = blob;
      places.block[r] = block;
    }
  }
  return places;
}

/** The blocks of each blob, ascending. */
function blocksByBlob({ blob, block }: Places, count: number): Uint32Array[] {
  const sizes = new Uint32Array(count);
  for (const i of blob) sizes[i] = (sizes[i] ?? 0) + 1;
  const blocks = Array.from(sizes, (size) => new Uint32Array(size));
  for (let r = blob.length - 1; r >= 0; r--) {
    const i = blob[r] ?? 0;
    const left = (sizes[i] ?? 0) - 1;
    sizes[i] = left;
    const own = blocks[i];
    if (own !== undefined) own[left] = block[r] ?? 0;
  }
  return blocks.map((unsorted) => unsorted.sort());
}

export function emptyChunks(blob: BlobInfo, sorted: Uint32Array): BlobChunks {
  const positions = new Map<number, number>();
  for (let i = 0; i < sorted.length; i++) positions.set(sorted[i] ?? 0, i);
  return { map: emptyMap(blob, sorted.length), positions, ordinals: new Uint32Array(sorted.length) };
}

interface RecordPlace {
  readonly view: DataView;
  readonly at: number;
  /** Of the image. */
  readonly chunkSize: number;
  readonly note: Complain;
}

function fill({ map, ordinals }: BlobChunks, i: number, blob: BlobInfo, record: RecordPlace): void {
  const { view, at, chunkSize, note } = record;
  const start = R.uncompressedOffset.read(view, at);
  const length = R.uncompressedSize.read(view, at);
  if (length === 0 || length > chunkSize) return note(bad(at, `has ${length} bytes`));
  if (start + length > map.uncompressedSize) return note(bad(at, `lies past the end of blob ${map.blobId}`));
  map.uncompressedOffset[i] = start;
  map.uncompressedLength[i] = length;
  ordinals[i] = R.index.read(view, at);
  if ((blob.features & UNIT_FEATURES) === 0) fillStored(map, i, blob, record);
}

/** Encrypting makes less than a cipher block two bytes more than one. */
const SHORTEST_ENCRYPTED = 18;

function fillStored(map: ChunkMap, i: number, blob: BlobInfo, { view, at, note }: RecordPlace): void {
  const flags = R.flags.read(view, at);
  const encrypted = (flags & CHUNK_FLAGS.encrypted) !== 0;
  const from = R.compressedOffset.read(view, at);
  const stored = R.compressedSize.read(view, at);
  const compressed = flags & CHUNK_FLAGS.compressed;
  const length = map.uncompressedLength[i] ?? 0;
  if ((flags & CHUNK_FLAGS.batch) !== 0 || encrypted !== (blob.cipher !== undefined))
    return note(bad(at, `has flags 0x${flags.toString(16)}, unlike its blob`));
  if (stored === 0 || from + stored > map.compressedSize)
    return note(bad(at, `is stored past the end of blob ${map.blobId}`));
  const most = encrypted ? Math.max(length, SHORTEST_ENCRYPTED) : length;
  if (stored > most || (compressed === 0 && stored !== length && stored !== most))
    return note(bad(at, `has ${stored} stored bytes for ${length}`));
  map.compressedOffset[i] = from;
  map.compressedLength[i] = stored;
  map.compressed[i] = compressed;
}

/** The chunks are in the order of their addresses. */
export function checkOverlap(
  { count, uncompressedOffset, uncompressedLength, blobId }: ChunkMap,
  table: number,
  complain: Complain,
): void {
  let end = 0;
  for (let i = 0; i < count; i++) {
    const start = uncompressedOffset[i] ?? 0;
    if (start < end)
      complain(new BrokenRule(table, `the chunk at ${start} of blob ${blobId} overlaps another`));
    end = start + (uncompressedLength[i] ?? 0);
  }
}

function bad(at: number, state: string): NydusError {
  return new BrokenRule(at, `the chunk record at ${at} ${state}`);
}

function emptyMap(blob: BlobInfo, count: number): ChunkMap {
  const { id, compressor, digester, uncompressedSize, cipher } = blob;
  const facts = { blobId: id, compressor, digester, uncompressedSize, compressedSize: dataSize(blob) };
  return emptyChunkMap({ ...facts, ...(cipher === undefined ? {} : { cipher }) }, count);
}
