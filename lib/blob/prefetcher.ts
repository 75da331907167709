/**
 * Fetches what a trace says will be read, before it is read: in the trace's order, but neighbours together, since a
 * round trip costs more than the bytes between them. Readers go first: while one of them waits for a request of its
 * own, no new request starts here.
 *
 * @module
 */
import { setTimeout } from "node:timers/promises";
import { Limiter } from "../base/limiter.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import type { TracedChunk } from "./trace.ts";

/** What prefetching needs of a blob's reader. */
export interface Prefetchable {
  readonly blob: { readonly map: ChunkMap; has(chunk: number): boolean };
  /** Fetches chunks that lie side by side, and resolves when they are there or cannot be had. Never rejects. */
  prefetch(run: readonly number[]): Promise<void>;
  /** Resolves when no reader waits for a request. */
  quiet(): Promise<void>;
}

export interface PrefetchOptions {
  readonly signal: AbortSignal;
  /** Stored bytes a second; no bound without it. */
  readonly rate?: number;
}

/** Stored bytes of a trace that are put into the order of the blob, for fewer requests. */
const WINDOW = 8 << 20;
/** Stored bytes that nobody asked for and that are fetched along to save a request. */
const GAP = 32 << 10;
const LARGEST_RUN = 2 << 20;
/** Requests under way at once; readers have as many again. */
const REQUESTS = 4;

/** Resolves when everything was asked for, or the signal aborts. Never rejects. */
export async function prefetch(
  readers: readonly Prefetchable[],
  chunks: readonly TracedChunk[],
  { signal, rate }: PrefetchOptions,
): Promise<void> {
  const limiter = new Limiter(REQUESTS);
  const pace = rate === undefined ? undefined : new Pace(rate);
  for (const window of windows(readers, chunks)) {
    const runs = runsOf(readers, window);
    await Promise.all(
      runs.map(({ reader, run }) =>
        limiter.run(async () => {
          await Promise.all(readers.map((one) => one.quiet()));
          await pace?.wait(storedBytes(reader.blob.map, run), signal);
          if (!signal.aborted) await reader.prefetch(run);
        }),
      ),
    );
    if (signal.aborted) return;
  }
}

function* windows(
  readers: readonly Prefetchable[],
  chunks: readonly TracedChunk[],
): Generator<TracedChunk[]> {
  let window: TracedChunk[] = [];
  let bytes = 0;
  for (const traced of chunks) {
    const reader = readers[traced.blob];
    if (reader === undefined || reader.blob.has(traced.chunk)) continue;
    window.push(traced);
    bytes += reader.blob.map.compressedLength[traced.chunk] ?? 0;
    if (bytes < WINDOW) continue;
    yield window;
    window = [];
    bytes = 0;
  }
  if (window.length > 0) yield window;
}

interface PlannedRun {
  readonly reader: Prefetchable;
  readonly run: number[];
}

/** Neighbours together, and in the order in which the trace first needs one of them. */
function runsOf(readers: readonly Prefetchable[], window: readonly TracedChunk[]): PlannedRun[] {
  const order = new Map(window.map((traced, i) => [traced, i]));
  const sorted = window.toSorted((a, b) => a.blob - b.blob || a.chunk - b.chunk);
  const runs: (PlannedRun & { readonly blob: number; first: number })[] = [];
  for (const traced of sorted) {
    const reader = readers[traced.blob];
    if (reader === undefined) continue;
    const at = order.get(traced) ?? 0;
    const last = runs.at(-1);
    if (last?.blob === traced.blob && joins(reader.blob.map, last.run, traced.chunk)) {
      for (let chunk = (last.run.at(-1) ?? 0) + 1; chunk <= traced.chunk; chunk++) last.run.push(chunk);
      last.first = Math.min(last.first, at);
    } else runs.push({ reader, run: [traced.chunk], blob: traced.blob, first: at });
  }
  return runs.sort((a, b) => a.first - b.first);
}

function joins(map: ChunkMap, run: readonly number[], chunk: number): boolean {
  const [first = 0, last = 0] = [run[0], run.at(-1)];
  const gap = (map.compressedOffset[chunk] ?? 0) - storedEnd(map, last);
  // Chunks are in the order of their addresses; a blob may store them in another.
  return gap >= 0 && gap <= GAP && storedEnd(map, chunk) - (map.compressedOffset[first] ?? 0) <= LARGEST_RUN;
}

function storedEnd(map: ChunkMap, chunk: number): number {
  return (map.compressedOffset[chunk] ?? 0) + (map.compressedLength[chunk] ?? 0);
}

function storedBytes(map: ChunkMap, run: readonly number[]): number {
  return run.reduce((sum, chunk) => sum + (map.compressedLength[chunk] ?? 0), 0);
}

/** Spreads bytes over time. */
class Pace {
  readonly #rate: number;
  #next = 0;

  constructor(rate: number) {
    this.#rate = rate;
  }

  async wait(bytes: number, signal: AbortSignal): Promise<void> {
    const now = performance.now();
    const start = Math.max(now, this.#next);
    this.#next = start + (bytes / this.#rate) * 1000;
    if (start > now) await setTimeout(start - now, undefined, { signal }).catch(() => {});
  }
}
