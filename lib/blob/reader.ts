/**
 * A blob becomes readable bytes: from the cache where it has them, otherwise by ranged requests whose chunks are
 * decompressed, verified against their digest, stored and handed out as they arrive. However many readers want a
 * chunk, it is fetched once.
 *
 * @module
 */
import type { ChunkHasher } from "../base/digest.ts";
import { corrupt, isCode, type NydusError, toNydusError } from "../base/error.ts";
import type { ExactReader } from "../base/exact-reader.ts";
import type { Limiter } from "../base/limiter.ts";
import type { Logger } from "../base/log.ts";
import type { Fetcher, FetchOptions } from "../content/content.ts";
import { chunkAt } from "../rafs/chunk-map.ts";
import type { CachedBlob, FetchedChunk } from "./cached-blob.ts";
import { ChunkDecoder } from "./chunk-decoder.ts";
import { ChunkRequests, type Places, type RequestCounters } from "./chunk-requests.ts";
import { type DecodeThreads, MOST_AT_ONCE, type StoredChunk } from "./decode-threads.ts";
import { planRuns, type Run, storedOrder } from "./fetch-plan.ts";
import { type Arrival, PendingChunks } from "./pending-chunks.ts";
import { SourceCost, Streams } from "./read-ahead.ts";
import { Silence } from "./silence.ts";
import { StoredRanges } from "./stored-ranges.ts";

const LARGEST_REQUEST = 4 << 20;
/** What is read ahead comes in requests of this size, several at once. */
const PIECE = 2 << 20;
/** Batches of one answer that may wait to be decoded while more of it arrives: what bounds memory. */
const BATCHES = 2;
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

interface BlobCounters extends RequestCounters {
  /** Chunks that came from the source, and their stored bytes. */
  chunks: number;
  storedBytes: number;
  /** Chunks that were verified but could not be written to the cache. */
  uncached: number;
}

export class BlobReader {
  readonly counters: BlobCounters = { chunks: 0, storedBytes: 0, runs: 0, corruptChunks: 0, uncached: 0 };
  readonly #options: BlobReaderOptions;
  readonly #pending = new PendingChunks();
  readonly #requests: ChunkRequests;
  /** Requests under way for readers, in contrast to prefetching. */
  readonly #demanded = new Set<Promise<void>>();
  readonly #streams = new Streams();
  readonly #cost: SourceCost;
  readonly #silence: Silence;
  /** The download of all that is missing, from a source that has no parts. */
  #whole: Promise<void> | undefined;

  constructor(options: BlobReaderOptions) {
    const { map } = options.blob;
    this.#options = options;
    this.#cost = options.cost ?? new SourceCost();
    this.#silence = new Silence(options.silence, this.#name);
    this.#requests = new ChunkRequests({ ...options, map, cost: this.#cost, counters: this.counters });
  }

  get blob(): CachedBlob {
    return this.#options.blob;
  }

  /** Fills `into` with the uncompressed bytes at `offset`. Space between chunks reads as zeros. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    using _held = this.blob.hold(offset, into.byteLength);
    const arrivals = await this.#silence.within(this.#arrive(offset, into.byteLength));
    this.blob.read(offset, into);
    for (const [chunk, data] of arrivals) {
      if (data !== undefined) overlay(into, offset, data, this.blob.map.uncompressedOffset[chunk] ?? 0);
    }
  }

  /** Resolves when nothing is on its way any more. */
  async settled(): Promise<void> {
    await this.#pending.settled();
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
  async #arrive(offset: number, length: number): Promise<[number, Arrival][]> {
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

  #await(chunks: readonly number[]): Promise<[number, Arrival]>[] {
    const { blob, hasher } = this.#options;
    this.#start(chunks.filter((chunk) => !this.#pending.has(chunk) && !blob.recheck(chunk, hasher)));
    return chunks.flatMap((chunk) => {
      const arrival = this.#pending.arrival(chunk);
      return arrival === undefined ? [] : [arrival.then((data): [number, Arrival] => [chunk, data])];
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
    for (const chunk of run) this.#pending.expect(chunk);
    this.#options.onAsked?.(run);
    return this.#fetchRun(run);
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
      body = await this.#requests.ask(chunks[0] ?? 0, chunks.at(-1) ?? 0, places, how);
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
      if (alone && this.#pending.isWanted(chunk)) await this.#fetchRun([chunk]);
      else this.#pending.fail(chunk, failure);
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
    for (const chunk of missing) this.#pending.expect(chunk);
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
    let bytes = 0;
    const flush = async (most: number): Promise<void> => {
      const work = this.#decode(arrived, decoder, places);
      arrived = [];
      bytes = 0;
      decoding.add(work);
      void work.finally(() => decoding.delete(work));
      while (decoding.size > most) await Promise.race(decoding);
    };
    try {
      await using _body = stream;
      for (const chunk of chunks) {
        const offset = map.compressedOffset[chunk] ?? 0;
        const size = map.compressedLength[chunk] ?? 0;
        const both = size + (map.uncompressedLength[chunk] ?? 0);
        // Readers get what has arrived before we wait for more; what arrived together is stored together.
        if (!ranges.has(offset, size) || bytes + both > MOST_AT_ONCE) await flush(BATCHES);
        bytes += both;
        arrived.push({ chunk, stored: await ranges.take(offset, size) });
        this.counters.storedBytes += ranges.fresh;
        this.#silence.broken();
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
    using decoded = await this.#options.threads?.decode(this.blob.map, batch);
    const ready: FetchedChunk[] = [];
    for (const [i, arrived] of batch.entries()) {
      const { chunk } = arrived;
      try {
        const data = decoded?.chunks[i] ?? (await this.#requests.verified(arrived, decoder, places));
        ready.push({ chunk, data });
      } catch (error) {
        this.#pending.fail(chunk, error);
      }
    }
    this.#deliver(ready);
  }

  #failAll(chunks: Run, failure: NydusError): void {
    for (const chunk of chunks) this.#pending.fail(chunk, failure);
  }

  #failure(error: unknown): NydusError {
    return toNydusError(error, this.#name);
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
      // A copy: its memory is used again.
      this.#pending.arrived(chunk, cached ? undefined : data.slice());
    }
  }
}

/** Copies the part of `data`, which lies at `at`, that falls into `into`, which lies at `offset`. */
function overlay(into: Uint8Array, offset: number, data: Uint8Array, at: number): void {
  const start = Math.max(offset, at);
  const end = Math.min(offset + into.byteLength, at + data.byteLength);
  if (end > start) into.set(data.subarray(start - at, end - at), start - offset);
}
