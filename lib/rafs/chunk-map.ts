/**
 * The chunks of one blob, as the data path needs them: sorted by uncompressed offset, in typed arrays on shared memory
 * so that threads read them without copies.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";

/** Chunks compressed together. */
export interface BatchUnit {
  readonly kind: "batch";
  readonly storedSize: number;
  /** Bytes that it expands to; as many as are stored when it is not compressed. */
  readonly size: number;
}

/** A stretch of an original gzip layer that can be decoded by itself. */
export interface GzipWindow {
  readonly kind: "window";
  /** In the gzip file, of the first whole byte. */
  readonly inOffset: number;
  /** In the decoded layer. */
  readonly outOffset: number;
  readonly storedSize: number;
  readonly size: number;
  /** 0 to 7 high bits of `previousByte`, the one before `inOffset`, come first. */
  readonly bits: number;
  readonly previousByte: number;
  /** The last decoded bytes before `outOffset` that are copied from, at most 32 KiB. */
  readonly dictionary: Uint8Array;
}

/** A part, from `skip` on, of what a compressed stream (a gzip member, zstd frames) expands to. */
export interface Piece {
  /** Of the stream, in the stored unit. */
  readonly offset: number;
  readonly storedSize: number;
  readonly skip: number;
  readonly size: number;
  /** SHA-256 of the piece; undefined where the chunks have digests of their own content. */
  readonly digest: Uint8Array | undefined;
}

/** Pieces of a layer that has a table of contents. They give one run of bytes, of which chunks are parts. */
export interface PiecesUnit {
  readonly kind: "pieces";
  readonly storedSize: number;
  /** The sum of the pieces' sizes. */
  readonly size: number;
  readonly pieces: readonly Piece[];
}

/** Chunks that are not stored each by itself but cut out of what a larger stored unit expands to. */
export interface StoredUnits {
  readonly units: readonly (BatchUnit | GzipWindow | PiecesUnit)[];
  /** By chunk: its unit, or `NO_UNIT` when it is stored by itself. */
  readonly unitOf: Uint32Array;
  /** By chunk: where it starts in what the unit expands to. */
  readonly offsetIn: Uint32Array;
}

export const NO_UNIT = 0xffff_ffff;

/** AES-128-XTS; one pair for all of a blob, each stored unit encrypted by itself. */
export interface Cipher {
  /** 32 bytes: the data key, then the tweak key. */
  readonly key: Uint8Array;
  /** 16 bytes: the tweak. */
  readonly iv: Uint8Array;
}

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
  /** Of chunks in a unit: the unit's. */
  readonly compressedOffset: Float64Array;
  readonly compressedLength: Uint32Array;
  /** 1 = stored compressed. */
  readonly compressed: Uint8Array;
  /** 32 bytes a chunk. */
  readonly digests: Uint8Array;
  /** Of blobs that have any. */
  readonly units?: StoredUnits;
  /** Of encrypted blobs. */
  readonly cipher?: Cipher;
}

type MapFacts = Omit<ChunkMap, "count" | keyof ChunkArrays>;
type ChunkArrays = Pick<
  ChunkMap,
  | "uncompressedOffset"
  | "uncompressedLength"
  | "compressedOffset"
  | "compressedLength"
  | "compressed"
  | "digests"
>;

/** To be filled. */
export function emptyChunkMap(facts: MapFacts, count: number): ChunkMap {
  const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(bytes);
  return {
    ...facts,
    count,
    uncompressedOffset: new Float64Array(shared(8 * count)),
    uncompressedLength: new Uint32Array(shared(4 * count)),
    compressedOffset: new Float64Array(shared(8 * count)),
    compressedLength: new Uint32Array(shared(4 * count)),
    compressed: new Uint8Array(shared(count)),
    digests: new Uint8Array(shared(32 * count)),
  };
}

/** Index of the last chunk that starts at or before `offset`, or -1. */
export function chunkAt(map: Pick<ChunkMap, "count" | "uncompressedOffset">, offset: number): number {
  let low = -1;
  let high = map.count - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((map.uncompressedOffset[middle] ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Whether the pieces that a chunk is cut out of have digests, against which they are checked when they are decoded. The
 * chunk's own digest then stands for this description, not for its content.
 */
export function isPieced(map: ChunkMap, chunk: number): boolean {
  const unit = map.units?.units[unitOf(map, chunk)];
  return unit?.kind === "pieces" && isVerified(unit);
}

export function isVerified({ pieces }: PiecesUnit): boolean {
  return pieces.every(({ digest }) => digest !== undefined);
}

/** The unit that a chunk lies in, or `NO_UNIT`. */
export function unitOf(map: ChunkMap, chunk: number): number {
  return map.units?.unitOf[chunk] ?? NO_UNIT;
}

export function chunkDigest(map: ChunkMap, index: number): Uint8Array {
  return map.digests.subarray(index * 32, index * 32 + 32);
}
