/**
 * A blob becomes readable bytes: from the cache where it has them, otherwise by ranged requests whose chunks are
 * decompressed, verified against their digest, stored and handed out as they arrive. However many readers want a
 * chunk, it is fetched once.
 *
 * @module
 */
import { readSync } from "node:fs";
import { decompressChunk } from "../base/compression.ts";
import { type ChunkHasher, digestFromHex, sameBytes } from "../base/digest.ts";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import { ExactReader } from "../base/exact-reader.ts";
import type { Limiter } from "../base/limiter.ts";
import type { Logger } from "../base/log.ts";
import type { Fetcher } from "../content/content.ts";
import { MEDIA } from "../oci/media-types.ts";
import { chunkAt, chunkDigest } from "../rafs/chunk-map.ts";
import type { CachedBlob, FetchedChunk } from "./cached-blob.ts";
import { planRuns, type Run } from "./fetch-plan.ts";

/** What a cold start costs is round trips: design.md 1 has the measurement. */
const READ_AHEAD = 1 << 20;
const LARGEST_REQUEST = 4 << 20;
/** A chunk that fails its digest is asked for again, alone, this often before readers get an error. */
const EXTRA_ATTEMPTS = 2;

export interface BlobReaderOptions {
  readonly blob: CachedBlob;
  readonly fetcher: Fetcher;
  readonly hasher: ChunkHasher;
  /** Requests under way at once, over all blobs of a source. */
  readonly limiter: Limiter;
  readonly log: Logger;
  readonly signal: AbortSignal;
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

/** A chunk on its way. Its data is handed over only where it did not fit the cache. */
type Pending = PromiseWithResolvers<Uint8Array | undefined>;

export class BlobReader {
  readonly counters: BlobCounters = { chunks: 0, storedBytes: 0, runs: 0, corruptChunks: 0, uncached: 0 };
  readonly #options: BlobReaderOptions;
  readonly #pending = new Map<number, Pending>();

  constructor(options: BlobReaderOptions) {
    this.#options = options;
  }

  get blob(): CachedBlob {
    return this.#options.blob;
  }

  /** Fills `into` with the uncompressed bytes at `offset`. Space between chunks reads as zeros. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    const arrivals = await this.#arrive(offset, into.byteLength);
    readFully(this.blob.fd, into, offset);
    for (const [chunk, data] of arrivals) {
      if (data !== undefined) overlay(into, offset, data, this.blob.map.uncompressedOffset[chunk] ?? 0);
    }
  }

  /** Makes sure that everything in [offset, offset + length) can be read, and returns what did not fit the cache. */
  async #arrive(offset: number, length: number): Promise<[number, Uint8Array | undefined][]> {
    const { blob, hasher } = this.#options;
    const needed: number[] = [];
    const waits: Promise<[number, Uint8Array | undefined]>[] = [];
    const chunks = this.#chunksIn(offset, length).filter((chunk) => !blob.has(chunk));
    for (const chunk of chunks) {
      if (!this.#pending.has(chunk) && !blob.recheck(chunk, hasher)) needed.push(chunk);
    }
    this.#start(needed);
    for (const chunk of chunks) {
      const pending = this.#pending.get(chunk);
      if (pending !== undefined) waits.push(pending.promise.then((data) => [chunk, data]));
    }
    return await Promise.all(waits);
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
    if (needed.length === 0) return;
    const { blob, limiter } = this.#options;
    const wanted = (chunk: number): boolean =>
      !blob.has(chunk) && !this.#pending.has(chunk) && !blob.isSuspect(chunk);
    for (const run of planRuns(blob.map, needed, { ahead: READ_AHEAD, most: LARGEST_REQUEST, wanted })) {
      for (const chunk of run) {
        const pending = Promise.withResolvers<Uint8Array | undefined>();
        // Nobody may be waiting for a chunk that was only read ahead.
        pending.promise.catch(() => {});
        this.#pending.set(chunk, pending);
      }
      void limiter.run(() => this.#fetchRun(run));
    }
  }

  /** Never rejects: failures go to those who wait for the chunks. */
  async #fetchRun(run: Run): Promise<void> {
    const left = new Set(run);
    try {
      await using body = await this.#request(run[0] ?? 0, run.at(-1) ?? 0);
      let batch: FetchedChunk[] = [];
      const flush = (): void => {
        this.#deliver(batch);
        for (const { chunk } of batch) left.delete(chunk);
        batch = [];
      };
      for (const chunk of run) {
        const size = this.blob.map.compressedLength[chunk] ?? 0;
        // Readers get what has arrived before we wait for more; what arrived together is stored together.
        if (body.buffered < size) flush();
        const data = await this.#verified(chunk, await body.take(size)).catch((error: unknown) =>
          this.#fail(chunk, error),
        );
        if (data !== undefined) batch.push({ chunk, data });
        else left.delete(chunk);
      }
      flush();
    } catch (error) {
      const failure = toNydusError(error, `read blob "${this.blob.map.blobId}"`);
      for (const chunk of left) this.#fail(chunk, failure);
    }
  }

  #fail(chunk: number, error: unknown): undefined {
    const pending = this.#pending.get(chunk);
    this.#pending.delete(chunk);
    pending?.reject(error);
  }

  /** Into the cache, and to those who wait. Where the cache fails, readers get the data all the same. */
  #deliver(batch: readonly FetchedChunk[]): void {
    const { blob, log } = this.#options;
    if (batch.length === 0) return;
    let cached = true;
    try {
      blob.store(batch);
    } catch (error) {
      cached = false;
      if (this.counters.uncached === 0) log.warn(toNydusError(error, "cache a chunk").message);
      this.counters.uncached += batch.length;
    }
    for (const { chunk, data } of batch) {
      this.counters.chunks++;
      this.counters.storedBytes += blob.map.compressedLength[chunk] ?? 0;
      this.#pending.get(chunk)?.resolve(cached ? undefined : data);
      this.#pending.delete(chunk);
    }
  }

  /** The stored bytes from the first chunk's start to the last one's end. */
  async #request(first: number, last: number): Promise<ExactReader> {
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
    return new ExactReader(await fetcher.fetch(descriptor, { range: { start, end }, signal }));
  }

  /** Damaged in transit is not damaged at the source: ask again before giving up. */
  async #verified(chunk: number, stored: Uint8Array): Promise<Uint8Array> {
    for (let attempt = 0; ; attempt++) {
      try {
        return this.#decode(chunk, stored);
      } catch (error) {
        this.counters.corruptChunks++;
        this.#options.log.warn(toNydusError(error, "decode a chunk").message, {
          blob: this.blob.map.blobId,
          chunk,
        });
        if (attempt === EXTRA_ATTEMPTS) throw error;
        await using body = await this.#request(chunk, chunk);
        stored = await body.take(stored.byteLength);
      }
    }
  }

  #decode(chunk: number, stored: Uint8Array): Uint8Array {
    const { hasher, blob } = this.#options;
    const { map } = blob;
    const length = map.uncompressedLength[chunk] ?? 0;
    const data = decompressChunk(map.compressed[chunk] === 1 ? map.compressor : "none", stored, length);
    if (sameBytes(hasher.digest(data), chunkDigest(map, chunk))) return data;
    throw corrupt(`Cannot use chunk ${chunk} of blob "${map.blobId}": it does not match its digest`);
  }
}

function readFully(fd: number, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.byteLength; ) {
    const count = readSync(fd, into, done, into.byteLength - done, offset + done);
    if (count === 0)
      throw new NydusError("internal", "Cannot read the cache file: it is shorter than its blob");
    done += count;
  }
}

/** Copies the part of `data`, which lies at `at`, that falls into `into`, which lies at `offset`. */
function overlay(into: Uint8Array, offset: number, data: Uint8Array, at: number): void {
  const start = Math.max(offset, at);
  const end = Math.min(offset + into.byteLength, at + data.byteLength);
  if (end > start) into.set(data.subarray(start - at, end - at), start - offset);
}
