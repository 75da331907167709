/**
 * Chunks that files name by their indexes and the chunk table does not have: all of them in tarfs, some in bootstraps
 * of builders that leave records out. An index has a chunk's address and ordinal, and the file its length.
 *
 * @module
 */
import type { BlobInfo } from "./blob-table.ts";
import type { Bootstrap } from "./bootstrap.ts";
import { refuse } from "./broken-rule.ts";
import { type BlobChunks, checkOverlap, emptyChunks } from "./chunk-maps.ts";
import { chunkIndex } from "./inode.ts";
import { chunkIndexes, type RawInode } from "./inode-reader.ts";
import { leaves } from "./leaves.ts";
import { BLOCK_SIZE } from "./superblock.ts";
import { unreadable } from "./superblock-reader.ts";

export interface IndexedChunk {
  /** Uncompressed offset in the blob, in blocks of the image. */
  readonly block: number;
  /** Which entry of the compression information it is. */
  readonly ordinal: number;
  /** Bytes, uncompressed. */
  readonly length: number;
}

const X = chunkIndex.fields;

/** Gathers them by blob and place. */
export class IndexedChunks {
  readonly #image: Pick<Bootstrap, "blobs" | "superblock">;
  readonly #byBlob: readonly Map<number, IndexedChunk>[];

  constructor(image: Pick<Bootstrap, "blobs" | "superblock">) {
    this.#image = image;
    this.#byBlob = image.blobs.map(() => new Map());
  }

  /**
   * @param blob position in the blob table
   * @returns what is wrong with it: it is not inside its blob, or another file says something else of the same place
   */
  add(blob: number, chunk: IndexedChunk): string | undefined {
    const { chunkCount, uncompressedSize } = this.#image.blobs[blob] ?? {
      chunkCount: 0,
      uncompressedSize: 0,
    };
    const { block, ordinal, length } = chunk;
    if (block * this.#image.superblock.blockSize + length > uncompressedSize)
      return "lies past the end of its blob";
    if (ordinal >= chunkCount) return `has ordinal ${ordinal} of ${chunkCount}`;
    const known = this.#byBlob[blob]?.get(block);
    if (known === undefined) this.#byBlob[blob]?.set(block, chunk);
    else if (known.ordinal !== ordinal || known.length !== length) return "is another one in another file";
    return undefined;
  }

  get count(): number {
    return this.#byBlob.reduce((sum, { size }) => sum + size, 0);
  }

  /** Those of one blob, by address. */
  of(blob: number): IndexedChunk[] {
    return [...(this.#byBlob[blob]?.values() ?? [])].sort((a, b) => a.block - b.block);
  }

  /**
   * @param tabled the chunks in the table, a blob each
   * @throws corrupt unless all chunks together have a place and a number each
   */
  check(tabled: readonly BlobChunks[]): void {
    this.#image.blobs.forEach((blob, i) => {
      const found = this.of(i);
      if (found.length > 0) checkTogether(blob.id, found, tabled[i], this.#image.superblock.blockSize);
    });
  }
}

function checkTogether(
  id: string,
  found: readonly IndexedChunk[],
  tabled: BlobChunks | undefined,
  blockSize: number,
): void {
  const ordinals = new Set(tabled?.ordinals);
  const ranges = found.map(({ block, length }) => ({ start: block * blockSize, length }));
  for (let i = 0; i < (tabled?.map.count ?? 0); i++)
    ranges.push({
      start: tabled?.map.uncompressedOffset[i] ?? 0,
      length: tabled?.map.uncompressedLength[i] ?? 0,
    });
  ranges.sort((a, b) => a.start - b.start);
  let end = 0;
  for (const { start, length } of ranges) {
    if (start < end) throw unreadable(`the chunk at ${start} of blob ${id} overlaps another`);
    end = start + length;
  }
  for (const { ordinal } of found) {
    if (ordinals.has(ordinal)) throw unreadable(`two chunks of blob ${id} have ordinal ${ordinal}`);
    ordinals.add(ordinal);
  }
}

/** One chunk of a file, with the blob that it is in. */
export interface FileChunk extends IndexedChunk {
  readonly blob: number;
}

/** In file order. @throws corrupt when the indexes are not in the bootstrap */
export function* fileChunks(
  { view, superblock }: Bootstrap,
  inode: RawInode,
): Generator<FileChunk, undefined> {
  const { chunkSize } = superblock;
  const { offset, size } = chunkIndexes(view, inode, chunkSize);
  let left = inode.size;
  for (let at = offset; at < offset + size; at += chunkIndex.size) {
    const device = X.device.read(view, at);
    yield {
      blob: (device & 0xff) - 1,
      block: X.block.read(view, at),
      ordinal: X.ordinalLow.read(view, at) + (device >> 8) * 0x1_0000,
      length: Math.min(chunkSize, left),
    };
    left -= chunkSize;
  }
}

/** For bootstraps that `checkBootstrap` has passed. @throws corrupt */
export function readIndexedChunks(image: Bootstrap, tabled: readonly BlobChunks[] = []): IndexedChunks {
  const found = new IndexedChunks(image);
  for (const inode of leaves(image)) {
    if (inode.kind !== "file") continue;
    for (const { blob, ...chunk } of fileChunks(image, inode)) {
      if (tabled[blob]?.positions.has(chunk.block) === true) continue;
      const state = found.add(blob, chunk);
      if (state !== undefined) throw unreadable(`a chunk of file ${inode.nid} ${state}`);
    }
  }
  return found;
}

/**
 * With chunks that files name and the table does not have. Of those, places in the stored blob and digests are not known
 * from here.
 */
export function withIndexed(
  { map: tabled, positions: known, ordinals }: BlobChunks,
  more: readonly IndexedChunk[],
  blob: BlobInfo,
): BlobChunks {
  if (more.length === 0) return { map: tabled, positions: known, ordinals };
  const all = emptyChunks(
    blob,
    Uint32Array.from([...known.keys(), ...more.map(({ block }) => block)]).sort(),
  );
  for (const [block, from] of known) {
    const to = all.positions.get(block) ?? 0;
    for (const key of NUMBERS) all.map[key][to] = tabled[key][from] ?? 0;
    all.map.digests.set(tabled.digests.subarray(32 * from, 32 * from + 32), 32 * to);
    all.ordinals[to] = ordinals[from] ?? 0;
  }
  for (const { block, ordinal, length } of more) {
    const to = all.positions.get(block) ?? 0;
    all.map.uncompressedOffset[to] = block * BLOCK_SIZE;
    all.map.uncompressedLength[to] = length;
    all.ordinals[to] = ordinal;
  }
  checkOverlap(all.map, 0, refuse);
  return all;
}

const NUMBERS = [
  "uncompressedOffset",
  "uncompressedLength",
  "compressedOffset",
  "compressedLength",
  "compressed",
] as const;
