/**
 * A blob becomes readable bytes: from the cache where it has them, otherwise by ranged requests whose chunks are
 * decompressed, verified against their digest, stored and handed out as they arrive. However many readers want a
 * chunk, it is fetched once.
 *
 * @module
 */
import { type ChunkHasher, digestFromHex, sameBytes } from "../base/digest.ts";
import { corrupt, isCode, type NydusError, toNydusError } from "../base/error.ts";
import { ExactReader } from "../base/exact-reader.ts";
import type { Limiter } from "../base/limiter.ts";
import type { Logger } from "../base/log.ts";
import type { Fetcher, FetchOptions } from "../content/content.ts";
import { MEDIA } from "../oci/media-types.ts";
import { chunkAt, chunkDigest, isPieced } from "../rafs/chunk-map.ts";
import type { CachedBlob, FetchedChunk } from "./cached-blob.ts";
import { ChunkDecoder } from "./chunk-decoder.ts";
import type { DecodeThreads, StoredChunk } from "./decode-threads.ts";
import { planRuns, type Run, storedOrder } from "./fetch-plan.ts";
import { SourceCost, Streams } from "./read-ahead.ts";
import { unlessSilent } from "./silence.ts";
import { StoredRanges } from "./stored-ranges.ts";

const LARGEST_REQUEST = 4 << 20;
/** What is read ahead comes in requests of this size, several at once. */
const PIECE = 2 << 20;
/** Batches of one answer that may wait to be decoded while more of it arrives: what bounds memory. */
const BATCHES = 2;
/** Milliseconds; longer than the longest pause between two attempts. */
const SECOND_LIMIT = 10_000;
/** A chunk that fails its digest is asked for again, alone, this often before readers get an error. */
const EXTRA_ATTEMPTS = 2;
/** Downloads of a whole blob that may pass before a chunk of it is given up: one under way, and one from the start. */
const WHOLE_PASSES = 2;

export interface BlobReaderOptions {
  readonly blob: CachedBlob;
  readonly fetcher: Fetcher;
  readonly hasher: ChunkHasher;
  /** Requests under way at once, over all blobs of a source. */
  readonly limiter: Limiter;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Milliseconds without a byte from the source after which a read fails, also one that waits for its turn. */
  readonly silence?: number;
  /** Where chunks are decoded; without them, in this thread. */
  readonly threads?: DecodeThreads;
  /** What requests to the source cost; shared by the blobs of one source. */
  readonly cost?: SourceCost;
  /** Told of chunks when they are asked for, because somebody waits for them or ahead of that. */
  readonly onAsked?: (chunks: Run) => void;
}

export interface BlobCounters {
  /** Chunks that came from the source, their stored bytes, and runs (each one request unless retried). */
  chunks: number;
  storedBytes: number;
  runs: number;
  /** Chunks that failed their digest and were asked for again. */
  corruptChunks: number;
  /** Chunks that were verified but could not be written to the cache. */
  uncached: number;
}

/** Those that gave bytes of an answer, by name. */
type Places = Set<string>;

/** A chunk on its way. Its data is handed over only where it did not fit the cache. */
interface Pending extends PromiseWithResolvers<Uint8Array | undefined> {
  /** Somebody waits for it; otherwise it is only read ahead. */
  wanted: boolean;
}

export class BlobReader {
  readonly counters: BlobCounters = { chunks: 0, storedBytes: 0, runs: 0, corruptChunks: 0, uncached: 0 };
  readonly #options: BlobReaderOptions;
  readonly #pending = new Map<number, Pending>();
  /** Requests under way for readers, in contrast to prefetching. */
  readonly #demanded = new Set<Promise<void>>();
  readonly #streams = new Streams();
  readonly #cost: SourceCost;
  /** The download of all that is missing, from a source that has no parts. */
  #whole: Promise<void> | undefined;
  /** When the source last gave something, and when a reader last got an error instead: performance.now(). */
  #heardAt = 0;
  #gaveUpAt = 0;

  constructor(options: BlobReaderOptions) {
    this.#options = options;
    this.#cost = options.cost ?? new SourceCost();
  }

  get blob(): CachedBlob {
    return this.#options.blob;
  }

  /** Fills `into` with the uncompressed bytes at `offset`. Space between chunks reads as zeros. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    using _held = this.blob.hold(offset, into.byteLength);
    const arrivals = await this.#withinLimit(this.#arrive(offset, into.byteLength));
    this.blob.read(offset, into);
    for (const [chunk, data] of arrivals) {
      if (data !== undefined) overlay(into, offset, data, this.blob.map.uncompressedOffset[chunk] ?? 0);
    }
  }

  /**
   * The kernel asks several times before it gives an error to whoever reads: of its file, and of the blob below it. Once a
   * source was given up, those that follow do not all wait as long again, until something comes.
   */
  async #withinLimit<T>(work: Promise<T>): Promise<T> {
    const { silence } = this.#options;
    if (silence === undefined) return await work;
    const limit = this.#gaveUpAt > this.#heardAt ? Math.min(silence, SECOND_LIMIT) : silence;
    try {
      return await unlessSilent(work, { limit, heardAt: () => this.#heardAt, what: this.#name });
    } catch (error) {
      if (isCode(error, "unavailable")) this.#gaveUpAt = performance.now();
      throw error;
    }
  }

  /** Resolves when nothing is on its way any more. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0)
      await Promise.allSettled(Array.from(this.#pending.values(), ({ promise }) => promise));
  }

  /** Fetches chunks that nobody waits for yet. Resolves when they are there or cannot be had; never rejects. */
  async prefetch(chunks: Run, most: number): Promise<void> {
    const needed = chunks.filter(this.#absent);
    const runs = planRuns(this.blob.map, needed, { ahead: 0, most, wanted: this.#absent });
    await Promise.all(runs.map((run) => this.#ask(run)));
  }

  /** Resolves when no reader waits for a request. */
  async quiet(): Promise<void> {
    while (this.#demanded.size > 0) await Promise.all(this.#demanded);
  }

  /** Makes sure that everything in [offset, offset + length) can be read, and returns what did not fit the cache. */
  async #arrive(offset: number, length: number): Promise<[number, Uint8Array | undefined][]> {
    for (;;) {
      const chunks = this.#chunksIn(offset, length).filter((chunk) => !this.blob.has(chunk));
      const joins = chunks.some((chunk) => this.#pending.has(chunk));
      try {
        return await Promise.all(this.#await(chunks));
      } catch (error) {
        // A request that others had waited for until it was given up says nothing about one of our own.
        if (!joins || !isCode(error, "unavailable")) throw error;
      }
    }
  }

  #await(chunks: readonly number[]): Promise<[number, Uint8Array | undefined]>[] {
    const { blob, hasher } = this.#options;
    this.#start(chunks.filter((chunk) => !this.#pending.has(chunk) && !blob.recheck(chunk, hasher)));
    return chunks.flatMap((chunk) => {
      const pending = this.#pending.get(chunk);
      if (pending === undefined) return [];
      pending.wanted = true;
      return [pending.promise.then((data): [number, Uint8Array | undefined] => [chunk, data])];
    });
  }

  #chunksIn(offset: number, length: number): number[] {
    const { map } = this.blob;
    const chunks: number[] = [];
    for (let i = Math.max(chunkAt(map, offset), 0); i < map.count; i++) {
      const start = map.uncompressedOffset[i] ?? 0;
      if (start >= offset + length) break;
      if (start + (map.uncompressedLength[i] ?? 0) > offset) chunks.push(i);
    }
    return chunks;
  }

  #start(needed: readonly number[]): void {
    const [first] = needed;
    if (first === undefined) return;
    const factor = this.#streams.factor(first);
    const ahead = this.#cost.ahead * factor;
    const plan = { ahead, most: LARGEST_REQUEST, piece: PIECE, wanted: this.#absent };
    const runs = planRuns(this.blob.map, needed, plan);
    this.#streams.reached((runs.at(-1)?.at(-1) ?? 0) + 1, factor);
    for (const run of runs) {
      const asked = this.#ask(run);
      this.#demanded.add(asked);
      void asked.finally(() => this.#demanded.delete(asked));
    }
  }

  /** Not in the cache, not on its way, and not waiting to be checked again. */
  readonly #absent = (chunk: number): boolean =>
    !this.blob.has(chunk) && !this.#pending.has(chunk) && !this.blob.isSuspect(chunk);

  #ask(run: Run): Promise<void> {
    for (const chunk of run) this.#expect(chunk);
    this.#options.onAsked?.(run);
    return this.#fetchRun(run);
  }

  #expect(chunk: number): void {
    if (this.#pending.has(chunk)) return;
    const pending = { ...Promise.withResolvers<Uint8Array | undefined>(), wanted: false };
    // Nobody may be waiting for a chunk that was only read ahead.
    pending.promise.catch(() => {});
    this.#pending.set(chunk, pending);
  }

  get #name(): string {
    return `read blob "${this.blob.map.blobId}"`;
  }

  /** Never rejects: failures go to those who wait for the chunks. */
  async #fetchRun(run: Run): Promise<void> {
    const refusal = await this.#options.limiter.run(() => this.#fetch(run, { partsOnly: true }));
    if (refusal === undefined) return;
    if (refusal.code === "unsupported") await this.#fetchWhole(run);
    else await this.#refused(run, refusal);
  }

  /** @returns why the request was refused; what goes wrong later goes to those who wait */
  async #fetch(chunks: Run, how: FetchOptions): Promise<NydusError | undefined> {
    let body: ExactReader;
    const places: Places = new Set();
    try {
      body = await this.#request(chunks[0] ?? 0, chunks.at(-1) ?? 0, places, how);
    } catch (error) {
      return this.#failure(error);
    }
    await this.#receive(chunks, body, places);
    return undefined;
  }

  /** A truncated blob refuses a request that reads ahead past its end, but still holds what somebody waits for. */
  async #refused(run: Run, failure: NydusError): Promise<void> {
    const alone = failure.code === "corrupt" && run.length > 1;
    for (const chunk of run) {
      if (alone && this.#pending.get(chunk)?.wanted === true) await this.#fetchRun([chunk]);
      else this.#fail(chunk, failure);
    }
  }

  /**
   * The source sends the whole blob whatever part is asked for: then it is sent once, and everything in it kept. Chunks
   * that were asked for when such a download had passed them need another one.
   */
  async #fetchWhole(run: Run): Promise<void> {
    for (let pass = 0; pass < WHOLE_PASSES && run.some((chunk) => this.#pending.has(chunk)); pass++) {
      this.#whole ??= this.#options.limiter
        .run(() => this.#fetchMissing())
        .finally(() => {
          this.#whole = undefined;
        });
      await this.#whole;
    }
    this.#failAll(run, corrupt(`Cannot ${this.#name}: the whole of it lacks what was asked for`));
  }

  async #fetchMissing(): Promise<void> {
    const missing = storedOrder(this.blob.map).filter((chunk) => !this.blob.has(chunk));
    for (const chunk of missing) this.#expect(chunk);
    const refusal = await this.#fetch(missing, {});
    if (refusal !== undefined) this.#failAll(missing, refusal);
  }

  /** Takes chunks, in the order in which they are stored, out of one answer. */
  async #receive(chunks: Run, stream: ExactReader, places: Places): Promise<void> {
    const { map } = this.blob;
    const ranges = new StoredRanges(stream, map.compressedOffset[chunks[0] ?? 0] ?? 0);
    const decoder = new ChunkDecoder(map);
    const before = this.counters.storedBytes;
    const started = performance.now();
    const decoding = new Set<Promise<void>>();
    let arrived: StoredChunk[] = [];
    const flush = async (most: number): Promise<void> => {
      const work = this.#decode(arrived, decoder, places);
      arrived = [];
      decoding.add(work);
      void work.finally(() => decoding.delete(work));
      while (decoding.size > most) await Promise.race(decoding);
    };
    try {
      await using _body = stream;
      for (const chunk of chunks) {
        const offset = map.compressedOffset[chunk] ?? 0;
        const size = map.compressedLength[chunk] ?? 0;
        // Readers get what has arrived before we wait for more; what arrived together is stored together.
        if (!ranges.has(offset, size)) await flush(BATCHES);
        arrived.push({ chunk, stored: await ranges.take(offset, size) });
        this.counters.storedBytes += ranges.fresh;
        this.#heardAt = performance.now();
      }
      await flush(0);
      this.#cost.moved(this.counters.storedBytes - before, performance.now() - started);
    } catch (error) {
      await flush(0);
      this.#failAll(chunks, this.#failure(error));
    }
  }

  /** Expands, checks, stores and hands out what has arrived. Never rejects. */
  async #decode(batch: readonly StoredChunk[], decoder: ChunkDecoder, places: Places): Promise<void> {
    const decoded = await this.#options.threads?.decode(this.blob.map, batch);
    const ready: FetchedChunk[] = [];
    for (const [i, { chunk, stored }] of batch.entries()) {
      const data =
        decoded?.[i] ??
        (await this.#verified(chunk, stored, decoder, places).catch((error: unknown) =>
          this.#fail(chunk, error),
        ));
      if (data !== undefined) ready.push({ chunk, data });
    }
    this.#deliver(ready);
  }

  #failAll(chunks: Run, failure: NydusError): void {
    for (const chunk of chunks) this.#fail(chunk, failure);
  }

  #failure(error: unknown): NydusError {
    return toNydusError(error, this.#name);
  }

  #fail(chunk: number, error: unknown): undefined {
    const pending = this.#pending.get(chunk);
    this.#pending.delete(chunk);
    pending?.reject(error);
  }

  /** Into the cache, and to those who wait. Where the cache fails, readers get the data all the same. */
  #deliver(batch: readonly FetchedChunk[]): void {
    const { blob, log, signal } = this.#options;
    if (batch.length === 0) return;
    let cached = true;
    try {
      blob.store(batch);
    } catch (error) {
      cached = false;
      if (this.counters.uncached === 0 && !signal.aborted)
        log.warn(toNydusError(error, "cache a chunk").message);
      this.counters.uncached += batch.length;
    }
    for (const { chunk, data } of batch) {
      this.counters.chunks++;
      this.#pending.get(chunk)?.resolve(cached ? undefined : data);
      this.#pending.delete(chunk);
    }
  }

  /** The stored bytes from the first chunk's start to the last one's end. */
  async #request(first: number, last: number, places: Places, how: FetchOptions): Promise<ExactReader> {
    const { blob, fetcher, signal } = this.#options;
    const { map } = blob;
    const start = map.compressedOffset[first] ?? 0;
    const end = (map.compressedOffset[last] ?? 0) + (map.compressedLength[last] ?? 0);
    this.counters.runs++;
    const descriptor = {
      mediaType: MEDIA.nydusBlob,
      digest: digestFromHex(map.blobId),
      size: map.compressedSize,
    };
    const asked = performance.now();
    const from = (place: string): void => void places.add(place);
    const body = await fetcher.fetch(descriptor, { ...how, range: { start, end }, from, signal });
    this.#cost.answered(performance.now() - asked);
    return new ExactReader(body);
  }

  /** Damaged in transit is not damaged at the source: ask again before giving up, and elsewhere if there is one. */
  async #verified(
    chunk: number,
    stored: Uint8Array,
    decoder: ChunkDecoder,
    places: Places,
  ): Promise<Uint8Array> {
    const tried: Places = new Set(places);
    for (let attempt = 0; ; attempt++) {
      try {
        return this.#checked(chunk, decoder.decode(chunk, stored));
      } catch (error) {
        this.counters.corruptChunks++;
        this.#options.log.warn(toNydusError(error, "decode a chunk").message, {
          blob: this.blob.map.blobId,
          chunk,
        });
        if (attempt === EXTRA_ATTEMPTS) throw error;
        await using body = await this.#request(chunk, chunk, tried, { damaged: [...tried] });
        stored = await body.take(stored.byteLength);
        decoder.forget();
      }
    }
  }

  #checked(chunk: number, data: Uint8Array): Uint8Array {
    const { hasher, blob } = this.#options;
    if (isPieced(blob.map, chunk) || sameBytes(hasher.digest(data), chunkDigest(blob.map, chunk)))
      return data;
    throw corrupt(`Cannot use chunk ${chunk} of blob "${blob.map.blobId}": it does not match its digest`);
  }
}

/** Copies the part of `data`, which lies at `at`, that falls into `into`, which lies at `offset`. */
function overlay(into: Uint8Array, offset: number, data: Uint8Array, at: number): void {
  const start = Math.max(offset, at);
  const end = Math.min(offset + into.byteLength, at + data.byteLength);
  if (end > start) into.set(data.subarray(start - at, end - at), start - offset);
}
