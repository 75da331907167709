/**
 * Makes a trace of an image while it is used. Serving threads mark what is read; the reader says in which order
 * chunks were asked for. What was read ahead and never used is left out.
 *
 * @module
 */

import { alignUp } from "../base/math.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { BLOCK, isReady, type ReadyMap, readyMap } from "./ready-map.ts";
import type { Trace, TracedRange } from "./trace.ts";

export class TraceRecorder {
  /** A bit for each 4 KiB block of each blob, set by whoever reads it: the same shape as a ready map. */
  readonly touched: readonly ReadyMap[];
  readonly #maps: readonly ChunkMap[];
  /** Chunks in the order in which they were asked for, by their numbers within the image; the first `#count` are valid. */
  readonly #asked: Uint32Array;
  #count = 0;
  /** By number within the image. */
  readonly #seen: Uint8Array;
  /** Of each blob, the number of its first chunk. */
  readonly #first: readonly number[];

  constructor(maps: readonly ChunkMap[]) {
    this.#maps = maps;
    this.touched = maps.map(({ uncompressedSize }) => readyMap(uncompressedSize));
    let chunks = 0;
    this.#first = maps.map(({ count }) => {
      chunks += count;
      return chunks - count;
    });
    this.#asked = new Uint32Array(chunks);
    this.#seen = new Uint8Array(chunks);
  }

  /** Chunks of a blob that are asked for now, wanted or read ahead. */
  asked(blob: number, chunks: readonly number[]): void {
    const first = this.#first[blob] ?? 0;
    for (const chunk of chunks) {
      if (this.#seen[first + chunk] !== 0) continue;
      this.#seen[first + chunk] = 1;
      this.#asked[this.#count++] = first + chunk;
    }
  }

  /** What was read so far: first what had to be fetched, in that order, then what the cache had. */
  trace(): Trace {
    const ranges: TracedRange[] = [];
    for (const number of this.#asked.subarray(0, this.#count)) {
      const blob = this.#blobOf(number);
      this.#add(ranges, blob, number - (this.#first[blob] ?? 0));
    }
    for (const [blob, { count }] of this.#maps.entries())
      for (let chunk = 0; chunk < count; chunk++)
        if (this.#seen[(this.#first[blob] ?? 0) + chunk] === 0) this.#add(ranges, blob, chunk);
    return ranges;
  }

  #blobOf(number: number): number {
    return this.#first.findLastIndex((first) => first <= number);
  }

  /** As part of the range before where it lies behind it. */
  #add(ranges: TracedRange[], blob: number, chunk: number): void {
    const map = this.#maps[blob];
    const touched = this.touched[blob];
    const offset = map?.uncompressedOffset[chunk] ?? 0;
    const length = map?.uncompressedLength[chunk] ?? 0;
    if (map === undefined || touched === undefined || !touches(touched, offset, offset + length)) return;
    const last = ranges.at(-1);
    if (last?.blobId === map.blobId && alignUp(last.offset + last.length, BLOCK) === offset)
      ranges[ranges.length - 1] = { ...last, length: offset + length - last.offset };
    else ranges.push({ blobId: map.blobId, offset, length });
  }
}

function touches(touched: ReadyMap, start: number, end: number): boolean {
  for (let at = start; at < end; at += BLOCK) if (isReady(touched, at, at + 1)) return true;
  return false;
}
