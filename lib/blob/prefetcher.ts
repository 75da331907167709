/**
 * Fetches what a trace says will be read, before it is read: in the trace's order, but neighbours together, since a
 * round trip costs more than the bytes between them. Readers go first: while one of them waits for a request of its
 * own, no new request starts here.
 *
 * @module
 */
import type { ByteRate } from "../base/byte-rate.ts";
import { Limiter } from "../base/limiter.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import type { TracedChunk } from "./trace.ts";

/** What prefetching needs of a blob's reader. */
export interface Prefetchable {
  readonly blob: { readonly map: ChunkMap; has(chunk: number): boolean };
  /**
   * Fetches chunks that lie side by side, and resolves when they are there or cannot be had. Never rejects.
   *
   * @param most stored bytes of one request
   */
  prefetch(run: readonly number[], most: number): Promise<void>;
  /** Resolves when no reader waits for a request. */
  quiet(): Promise<void>;
}

/** How requests are cut. */
export interface PrefetchShape {
  /** Stored bytes that are put into the order of the blob, for fewer requests. */
  readonly window: number;
  /** Stored bytes that nobody asked for and that are fetched along to save a request. */
  readonly gap: number;
  /** Stored bytes of one request. */
  readonly most: number;
  /** Requests under way at once; readers have their own. */
  readonly requests: number;
}

/** Of chunks that lie here and there: round trips are what they cost. */
export const SCATTERED: PrefetchShape = { window: 16 << 20, gap: 128 << 10, most: 2 << 20, requests: 4 };

/**
 * Of a blob that is in the order of use: one request after another, since side by side they would share the link, and
 * what is needed first would come later.
 */
export const STREAM: PrefetchShape = {
  window: Number.POSITIVE_INFINITY,
  gap: 32 << 10,
  most: 32 << 20,
  requests: 1,
};

export interface PrefetchOptions {
  readonly signal: AbortSignal;
  /** Stored bytes a second; several prefetches may share it. No bound without it. */
  readonly rate?: ByteRate;
  /** By default `SCATTERED`. */
  readonly shape?: PrefetchShape;
}

/** Resolves when everything was asked for, or the signal aborts. Never rejects. */
export async function prefetch(
  readers: readonly Prefetchable[],
  chunks: readonly TracedChunk[],
  { signal, rate, shape = SCATTERED }: PrefetchOptions,
): Promise<void> {
  const limiter = new Limiter(shape.requests);
  for (const window of windows(readers, chunks, shape)) {
    const runs = runsOf(readers, window, shape);
    await Promise.all(
      runs.map(({ reader, run }) =>
        limiter.run(async () => {
          await Promise.all(readers.map((one) => one.quiet()));
          if (!signal.aborted) await rate?.wait(storedBytes(reader.blob.map, run), signal);
          if (!signal.aborted) await reader.prefetch(run, shape.most);
        }),
      ),
    );
    if (signal.aborted) return;
  }
}

function* windows(
  readers: readonly Prefetchable[],
  chunks: readonly TracedChunk[],
  shape: PrefetchShape,
): Generator<TracedChunk[]> {
  let window: TracedChunk[] = [];
  let bytes = 0;
  for (const traced of chunks) {
    const reader = readers[traced.blob];
    if (reader === undefined || reader.blob.has(traced.chunk)) continue;
    window.push(traced);
    bytes += reader.blob.map.compressedLength[traced.chunk] ?? 0;
    if (bytes < shape.window) continue;
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
function runsOf(
  readers: readonly Prefetchable[],
  window: readonly TracedChunk[],
  shape: PrefetchShape,
): PlannedRun[] {
  const order = new Map(window.map((traced, i) => [traced, i]));
  const sorted = window.toSorted((a, b) => a.blob - b.blob || a.chunk - b.chunk);
  const runs: (PlannedRun & { readonly blob: number; first: number })[] = [];
  for (const traced of sorted) {
    const reader = readers[traced.blob];
    if (reader === undefined) continue;
    const at = order.get(traced) ?? 0;
    const last = runs.at(-1);
    if (last?.blob === traced.blob && joins(reader.blob.map, last.run, traced.chunk, shape)) {
      for (let chunk = (last.run.at(-1) ?? 0) + 1; chunk <= traced.chunk; chunk++) last.run.push(chunk);
      last.first = Math.min(last.first, at);
    } else runs.push({ reader, run: [traced.chunk], blob: traced.blob, first: at });
  }
  return runs.sort((a, b) => a.first - b.first);
}

function joins(
  map: ChunkMap,
  run: readonly number[],
  chunk: number,
  { gap: bridged, most }: PrefetchShape,
): boolean {
  const [first = 0, last = 0] = [run[0], run.at(-1)];
  const gap = (map.compressedOffset[chunk] ?? 0) - storedEnd(map, last);
  // Chunks are in the order of their addresses; a blob may store them in another.
  return gap >= 0 && gap <= bridged && storedEnd(map, chunk) - (map.compressedOffset[first] ?? 0) <= most;
}

function storedEnd(map: ChunkMap, chunk: number): number {
  return (map.compressedOffset[chunk] ?? 0) + (map.compressedLength[chunk] ?? 0);
}

function storedBytes(map: ChunkMap, run: readonly number[]): number {
  return run.reduce((sum, chunk) => sum + (map.compressedLength[chunk] ?? 0), 0);
}
