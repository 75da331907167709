/**
 * Which chunks to ask for in one request: the missing ones that a read needs, joined when they lie side by side in the
 * stored blob, and then the ones right behind them (read-ahead), because a round trip costs more than a megabyte.
 *
 * @module
 */
import { type ChunkMap, NO_UNIT, unitOf } from "../rafs/chunk-map.ts";

/**
 * Chunks in the order in which they, or the units they are in, lie in the stored blob; back to back, unless all of it is
 * read.
 */
export type Run = readonly number[];

export interface PlanOptions {
  /** Stored bytes to read ahead past the last chunk needed. */
  readonly ahead: number;
  /** Largest request, in stored bytes (a single larger chunk still goes as one). */
  readonly most: number;
  /** Reading ahead fills the last request up to so many stored bytes; the rest goes into further ones beside it. */
  readonly piece?: number;
  /** Whether a chunk may be read ahead: not in the cache, not on its way. */
  readonly wanted: (chunk: number) => boolean;
}

function end(map: ChunkMap, chunk: number): number {
  return (map.compressedOffset[chunk] ?? 0) + (map.compressedLength[chunk] ?? 0);
}

/** Chunks of one unit have its range, and windows into a gzip layer overlap. */
function follows(map: ChunkMap, chunk: number, previous: number): boolean {
  const start = map.compressedOffset[chunk] ?? 0;
  if (unitOf(map, chunk) === NO_UNIT) return start === end(map, previous);
  const after = (map.compressedOffset[previous] ?? 0) <= start && end(map, previous) <= end(map, chunk);
  return after && start <= end(map, previous);
}

/** The other chunks of the units come for nothing. */
function withUnits(map: ChunkMap, needed: readonly number[], { wanted }: PlanOptions): readonly number[] {
  if (map.units === undefined) return needed;
  const all = new Set(needed);
  for (const chunk of needed) {
    const unit = unitOf(map, chunk);
    if (unit === NO_UNIT) continue;
    for (let i = chunk - 1; i >= 0 && unitOf(map, i) === unit && !all.has(i); i--) if (wanted(i)) all.add(i);
    for (let i = chunk + 1; i < map.count && unitOf(map, i) === unit && !all.has(i); i++)
      if (wanted(i)) all.add(i);
  }
  return [...all].sort((a, b) => a - b);
}

/** @param needed chunks in ascending order, none of them in the cache or on its way */
export function planRuns(map: ChunkMap, needed: readonly number[], options: PlanOptions): Run[] {
  const runs: number[][] = [];
  for (const chunk of withUnits(map, needed, options)) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const first = run?.[0];
    const fits = first !== undefined && end(map, chunk) - (map.compressedOffset[first] ?? 0) <= options.most;
    if (run !== undefined && last !== undefined && fits && follows(map, chunk, last)) run.push(chunk);
    else runs.push([chunk]);
  }
  extend(map, runs, options);
  return runs;
}

/** All chunks as they can be taken out of the stored blob in one pass. */
export function storedOrder(map: ChunkMap): number[] {
  const chunks = Array.from({ length: map.count }, (_, chunk) => chunk);
  return chunks.sort((a, b) => (map.compressedOffset[a] ?? 0) - (map.compressedOffset[b] ?? 0));
}

function extend(map: ChunkMap, runs: number[][], { ahead, most, piece = most, wanted }: PlanOptions): void {
  let run = runs.at(-1);
  if (run === undefined) return;
  const needed = end(map, run.at(-1) ?? 0);
  for (let chunk = (run.at(-1) ?? 0) + 1; chunk < map.count; chunk++) {
    const stop = end(map, chunk);
    if (!follows(map, chunk, chunk - 1) || stop - needed > ahead || !wanted(chunk)) return;
    if (stop - (map.compressedOffset[run[0] ?? 0] ?? 0) > piece) {
      // Chunks of one unit share its bytes.
      if (unitOf(map, chunk) !== NO_UNIT) return;
      run = [];
      runs.push(run);
    }
    run.push(chunk);
  }
}
