/**
 * Which chunks to ask for in one request: the missing ones that a read needs, joined when they lie side by side in the
 * stored blob, and then the ones right behind them (read-ahead), because a round trip costs more than a megabyte.
 *
 * @module
 */
import type { ChunkMap } from "../rafs/chunk-map.ts";

/** Chunks that lie back to back in the stored blob, in that order. */
export type Run = readonly number[];

export interface PlanOptions {
  /** Stored bytes to read ahead past the last chunk needed. */
  readonly ahead: number;
  /** Largest request, in stored bytes (a single larger chunk still goes as one). */
  readonly most: number;
  /** Whether a chunk may be read ahead: not in the cache, not on its way. */
  readonly wanted: (chunk: number) => boolean;
}

function end(map: ChunkMap, chunk: number): number {
  return (map.compressedOffset[chunk] ?? 0) + (map.compressedLength[chunk] ?? 0);
}

function follows(map: ChunkMap, chunk: number, previous: number): boolean {
  return map.compressedOffset[chunk] === end(map, previous);
}

/** @param needed chunks in ascending order, none of them in the cache or on its way */
export function planRuns(map: ChunkMap, needed: readonly number[], options: PlanOptions): Run[] {
  const runs: number[][] = [];
  for (const chunk of needed) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const first = run?.[0];
    const fits = first !== undefined && end(map, chunk) - (map.compressedOffset[first] ?? 0) <= options.most;
    if (run !== undefined && last !== undefined && fits && follows(map, chunk, last)) run.push(chunk);
    else runs.push([chunk]);
  }
  const run = runs.at(-1);
  if (run !== undefined) extend(map, run, options);
  return runs;
}

function extend(map: ChunkMap, run: number[], options: PlanOptions): void {
  const first = map.compressedOffset[run[0] ?? 0] ?? 0;
  const needed = end(map, run.at(-1) ?? 0);
  for (let chunk = (run.at(-1) ?? 0) + 1; chunk < map.count; chunk++) {
    const stop = end(map, chunk);
    if (!follows(map, chunk, chunk - 1) || stop - needed > options.ahead || stop - first > options.most)
      return;
    if (!options.wanted(chunk)) return;
    run.push(chunk);
  }
}
