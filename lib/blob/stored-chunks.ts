/**
 * Chunks in the order in which a reader wants them, with few requests: what is wanted next is looked at a window ahead,
 * chunks that lie near each other in a blob come with one request, and the next window is on its way while the last one
 * is used. Memory holds two windows, whatever the image.
 *
 * @module
 */
import { digestFromHex } from "../base/digest.ts";
import { ExactReader } from "../base/exact-reader.ts";
import { Limiter } from "../base/limiter.ts";
import type { Fetcher } from "../content/content.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";

/** Bytes of a window; the uncompressed ones bound what a consumer may keep of it. */
const WINDOW = 8 << 20;
const UNCOMPRESSED_WINDOW = 64 << 20;
/** Reading over a gap costs less than another request. */
const SMALL_GAP = 64 << 10;
const REQUESTS = 4;

/** A chunk by its position in its blob's map. */
export interface ChunkPlace {
  readonly map: ChunkMap;
  readonly index: number;
}

export interface StoredChunk extends ChunkPlace {
  /** As it is in the blob, not verified. */
  readonly stored: Uint8Array;
}

export interface StoredChunkOptions {
  readonly fetcher: Fetcher;
  readonly signal?: AbortSignal;
}

/** @throws what the fetcher throws; corrupt when a blob ends early */
export async function* storedChunks(
  wanted: Iterable<ChunkPlace>,
  options: StoredChunkOptions,
): AsyncGenerator<StoredChunk, undefined> {
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const limiter = new Limiter(REQUESTS);
  const start = (chunks: readonly ChunkPlace[]): Promise<ReadonlyMap<string, Uint8Array>> => {
    const fetched = fetchWindow(chunks, { ...options, signal }, limiter);
    fetched.catch(() => {});
    return fetched;
  };
  const windows = windowsOf(wanted);
  let next = windows.next();
  let coming = next.done ? undefined : start(next.value);
  try {
    while (!next.done && coming !== undefined) {
      const chunks: readonly ChunkPlace[] = next.value;
      const fetched = await coming;
      next = windows.next();
      coming = next.done ? undefined : start(next.value);
      for (const chunk of chunks) {
        options.signal?.throwIfAborted();
        yield { ...chunk, stored: fetched.get(keyOf(chunk)) ?? new Uint8Array() };
      }
    }
  } finally {
    stop.abort();
    await coming?.catch(() => {});
  }
}

function* windowsOf(wanted: Iterable<ChunkPlace>): Generator<readonly ChunkPlace[], undefined> {
  let chunks: ChunkPlace[] = [];
  let stored = 0;
  let uncompressed = 0;
  for (const chunk of wanted) {
    const last = chunks.at(-1);
    // Chunks of one unit come together.
    if (last === undefined || keyOf(last) !== keyOf(chunk)) stored += sizeOf(chunk);
    chunks.push(chunk);
    uncompressed += chunk.map.uncompressedLength[chunk.index] ?? 0;
    if (stored < WINDOW && uncompressed < UNCOMPRESSED_WINDOW) continue;
    yield chunks;
    chunks = [];
    stored = 0;
    uncompressed = 0;
  }
  if (chunks.length > 0) yield chunks;
}

function startOf({ map, index }: ChunkPlace): number {
  return map.compressedOffset[index] ?? 0;
}

function sizeOf({ map, index }: ChunkPlace): number {
  return map.compressedLength[index] ?? 0;
}

function endOf(chunk: ChunkPlace): number {
  return startOf(chunk) + sizeOf(chunk);
}

/** Chunks with one key share their stored bytes. */
function keyOf(chunk: ChunkPlace): string {
  return `${chunk.map.blobId}:${startOf(chunk)}:${sizeOf(chunk)}`;
}

async function fetchWindow(
  chunks: readonly ChunkPlace[],
  options: StoredChunkOptions,
  limiter: Limiter,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const fetched = new Map<string, Uint8Array>();
  await Promise.all(runsOf(chunks).map((run) => limiter.run(() => fetchRun(run, options, fetched))));
  return fetched;
}

/** Chunks of one blob in the order of their offsets, with nothing or little between them. */
type Run = readonly ChunkPlace[];

function runsOf(chunks: readonly ChunkPlace[]): Run[] {
  const distinct = [...new Map(chunks.map((chunk) => [keyOf(chunk), chunk])).values()];
  distinct.sort((a, b) =>
    a.map.blobId === b.map.blobId ? startOf(a) - startOf(b) : a.map.blobId < b.map.blobId ? -1 : 1,
  );
  const runs: ChunkPlace[][] = [];
  for (const chunk of distinct) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const gap = last?.map.blobId === chunk.map.blobId ? startOf(chunk) - endOf(last) : -1;
    if (run !== undefined && gap >= 0 && gap <= SMALL_GAP) run.push(chunk);
    else runs.push([chunk]);
  }
  return runs;
}

async function fetchRun(
  run: Run,
  { fetcher, signal }: StoredChunkOptions,
  into: Map<string, Uint8Array>,
): Promise<void> {
  const [first] = run;
  const last = run.at(-1);
  if (first === undefined || last === undefined) return;
  signal?.throwIfAborted();
  const { blobId, compressedSize: size } = first.map;
  const descriptor = { mediaType: MEDIA.nydusBlob, digest: digestFromHex(blobId), size };
  const range = { start: startOf(first), end: endOf(last) };
  const abort = signal === undefined ? {} : { signal };
  await using body = new ExactReader(await fetcher.fetch(descriptor, { range, ...abort }));
  let at = range.start;
  for (const chunk of run) {
    await body.take(startOf(chunk) - at);
    into.set(keyOf(chunk), await body.take(sizeOf(chunk)));
    at = endOf(chunk);
  }
}
