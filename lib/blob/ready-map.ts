/**
 * Which parts of a blob's uncompressed space can be answered from the cache file: one bit for each 4 KiB block, on
 * shared memory, so that a reader thread decides hit or miss without asking anybody. Bits are set after the data is in
 * the cache file, and cleared before it leaves (`cache-view.ts`); a chunk starts on a block boundary (RAFS v6), so a set
 * bit never covers half a chunk.
 *
 * @module
 */
import type { ChunkMap } from "../rafs/chunk-map.ts";

export const BLOCK = 4096;

/** 16 TiB would be legal; a bitmap for it would be half a gigabyte. No image comes near. */
export const MAX_BLOB_BYTES = 2 ** 40;

export type ReadyMap = Int32Array<SharedArrayBuffer>;

export function readyMap(bytes: number): ReadyMap {
  return new Int32Array(new SharedArrayBuffer(Math.ceil(Math.ceil(bytes / BLOCK) / 32) * 4 + 4));
}

/** Bits `from`..31 and 0..`to` of a word. */
function mask(from: number, to: number): number {
  return (-1 << from) & (-1 >>> (31 - to));
}

/** Whether every block that [start, end) touches is ready. */
export function isReady(map: ReadyMap, start: number, end: number): boolean {
  if (end <= start) return true;
  const first = Math.floor(start / BLOCK);
  const last = Math.floor((end - 1) / BLOCK);
  for (let word = Math.floor(first / 32); word <= Math.floor(last / 32); word++) {
    const from = Math.max(first - word * 32, 0);
    const to = Math.min(last - word * 32, 31);
    const wanted = mask(from, to);
    if ((Atomics.load(map, word) & wanted) !== wanted) return false;
  }
  return true;
}

/** How many blocks are ready. */
export function countReady(map: ReadyMap): number {
  let count = 0;
  for (let word = 0; word < map.length; word++) {
    // Bits in pairs, in fours, in bytes, then all bytes added up in the highest.
    let bits = Atomics.load(map, word);
    bits -= (bits >>> 1) & 0x5555_5555;
    bits = (bits & 0x3333_3333) + ((bits >>> 2) & 0x3333_3333);
    count += Math.imul((bits + (bits >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
  }
  return count;
}

export function setReady(map: ReadyMap, start: number, end: number): void {
  eachWord(start, end, (word, bits) => Atomics.or(map, word, bits));
}

export function clearReady(map: ReadyMap, start: number, end: number): void {
  eachWord(start, end, (word, bits) => Atomics.and(map, word, ~bits));
}

function eachWord(start: number, end: number, change: (word: number, bits: number) => void): void {
  if (end <= start) return;
  const first = Math.floor(start / BLOCK);
  const last = Math.floor((end - 1) / BLOCK);
  for (let word = Math.floor(first / 32); word <= Math.floor(last / 32); word++)
    change(word, mask(Math.max(first - word * 32, 0), Math.min(last - word * 32, 31)));
}

/** Space between chunks holds nothing that any file refers to; it reads as zeros, always. */
export function setGapsReady(ready: ReadyMap, map: ChunkMap): void {
  let end = 0;
  for (let i = 0; i < map.count; i++) {
    const start = map.uncompressedOffset[i] ?? 0;
    setReady(ready, end, start);
    end = Math.ceil((start + (map.uncompressedLength[i] ?? 0)) / BLOCK) * BLOCK;
  }
  setReady(ready, end, map.uncompressedSize);
}
