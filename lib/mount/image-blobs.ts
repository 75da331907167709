/**
 * The blobs of one mounted image: for each, its view of the cache, its reader, and what threads need to serve it.
 *
 * @module
 */
import { setTimeout } from "node:timers/promises";
import type { ByteRate } from "../base/byte-rate.ts";
import { type ChunkHasher, chunkHasher } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import type { Logger } from "../base/log.ts";
import type { BlobCache } from "../blob/cache.ts";
import type { CachedBlob } from "../blob/cached-blob.ts";
import type { DecodeThreads } from "../blob/decode-threads.ts";
import { chunksInMargins } from "../blob/margin.ts";
import { type PrefetchShape, prefetch, SCATTERED, STREAM } from "../blob/prefetcher.ts";
import { SourceCost } from "../blob/read-ahead.ts";
import { BlobReader } from "../blob/reader.ts";
import { type ReadyMap, readyMap } from "../blob/ready-map.ts";
import { type ScrubCounts, type ScrubOptions, scrubBlob } from "../blob/scrub.ts";
import { type Trace, type TracedChunk, tracedChunks } from "../blob/trace.ts";
import { TraceRecorder } from "../blob/trace-recorder.ts";
import type { Fetcher } from "../content/content.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import type { Device } from "./fuse-messages.ts";

/** Requests under way at once for one image. */
const CONCURRENT_REQUESTS = 8;

/** An unmount takes at most this much longer for requests that are under way. */
const SETTLE_MS = 1000;

/** Bytes of a blob that are read back while a mount waits: some 100 ms. */
const PROVE_BYTES = 64 << 20;
/** In the background: a fifth of a core at most. */
const BACKGROUND_REST = 4;

export interface ServedBlob {
  readonly cached: CachedBlob;
  readonly reader: BlobReader;
  readonly device: Device;
}

export interface ImageBlobsOptions {
  readonly maps: readonly ChunkMap[];
  readonly cache: BlobCache;
  readonly fetcher: Fetcher;
  /** Where chunks are decoded; without them, in this thread. */
  readonly threads?: DecodeThreads;
  /** Milliseconds without a byte after which a read fails. */
  readonly silence?: number;
  /** Bounds what is fetched ahead. */
  readonly prefetchRate?: ByteRate | undefined;
  readonly log: Logger;
  /** The number of the blob's device, never used before for another; the name follows from it. */
  readonly deviceNumber: (blob: number) => number;
}

export class ImageBlobs implements Disposable {
  readonly blobs: readonly ServedBlob[];
  readonly #stop: AbortController;
  readonly #stopAhead = new AbortController();
  readonly #rate: ByteRate | undefined;
  readonly #recorder: TraceRecorder;
  readonly #log: Logger;
  readonly #counts: ScrubCounts;

  private constructor(
    blobs: readonly ServedBlob[],
    { stop, recorder }: { readonly stop: AbortController; readonly recorder: TraceRecorder },
    { prefetchRate, cache, log }: ImageBlobsOptions,
  ) {
    this.blobs = blobs;
    this.#stop = stop;
    this.#recorder = recorder;
    this.#rate = prefetchRate;
    this.#log = log;
    this.#counts = cache.scrubbed;
  }

  static async open(options: ImageBlobsOptions): Promise<ImageBlobs> {
    const stop = new AbortController();
    const limiter = new Limiter(CONCURRENT_REQUESTS);
    const recorder = new TraceRecorder(options.maps);
    const cost = new SourceCost();
    const served: ServedBlob[] = [];
    try {
      for (const [blob, map] of options.maps.entries()) {
        const hasher = await chunkHasher(map.digester);
        const onAsked = (chunks: readonly number[]): void => recorder.asked(blob, chunks);
        const touched = recorder.touched[blob] ?? readyMap(0);
        const serving = { hasher, limiter, signal: stop.signal, onAsked, cost };
        served.push(serve(options, options.deviceNumber(blob), map, serving, touched));
      }
    } catch (error) {
      for (const blob of served) blob.cached[Symbol.dispose]();
      throw error;
    }
    return new ImageBlobs(served, { stop, recorder }, options);
  }

  get devices(): readonly Device[] {
    return this.blobs.map((blob) => blob.device);
  }

  /** A blob of the image by its id. */
  blob(blobId: string): ServedBlob {
    const blob = this.blobs.find(({ cached }) => cached.map.blobId === blobId);
    if (blob !== undefined) return blob;
    throw new NydusError("internal", `Cannot serve blob "${blobId}": the image has no such blob`);
  }

  /**
   * Blobs that are complete and whole in the cache. What was not read back yet is read now if that takes a moment only;
   * otherwise a scrub in the background does it, for the next mount.
   */
  async proven(): Promise<readonly ServedBlob[]> {
    const complete = this.blobs.filter(({ cached }) => cached.complete);
    for (const blob of complete)
      if (blob.cached.unproven <= PROVE_BYTES) await this.#scrub(blob, { scope: "unchecked", rest: 0 });
      else void this.#scrub(blob, { scope: "unchecked", rest: BACKGROUND_REST });
    return complete.filter(({ cached }) => cached.isProven);
  }

  /** After an unclean stop what is cached is believed at once, and read back in the background. */
  checkAfterUncleanStop(): void {
    for (const blob of this.blobs)
      if (!blob.cached.file.clean) void this.#scrub(blob, { scope: "unchecked", rest: BACKGROUND_REST });
  }

  /** Reads everything back that is cached of the image. What is damaged is fetched again. */
  async scrub(): Promise<void> {
    for (const blob of this.blobs) await this.#scrub(blob, { scope: "all", rest: 0 });
  }

  async #scrub(blob: ServedBlob, how: Pick<ScrubOptions, "scope" | "rest">): Promise<void> {
    const { cached, reader } = blob;
    const fetched: Promise<void>[] = [];
    const damaged = (chunk: number): void => {
      this.#log.warn("a cached chunk was damaged", { blob: cached.map.blobId, chunk });
      fetched.push(reader.prefetch([chunk], 0));
    };
    await scrubBlob(cached, this.#counts, { ...how, signal: this.#stop.signal, damaged });
    await Promise.all(fetched);
  }

  /** What was read since the image was opened. */
  trace(): Trace {
    return this.#recorder.trace();
  }

  /** Fetches what a trace names, behind what readers wait for. Resolves when done or no longer wanted; never rejects. */
  async prefetch(trace: Trace): Promise<void> {
    const maps = this.blobs.map(({ cached }) => cached.map);
    await this.#fetchAhead(tracedChunks(trace, maps), SCATTERED);
  }

  /** The same for all of a blob that is in the order of use. */
  async stream(blob: number): Promise<void> {
    const count = this.blobs[blob]?.cached.map.count ?? 0;
    const chunks = Array.from({ length: count }, (_, chunk) => ({ blob, chunk }));
    await this.#fetchAhead(chunks, STREAM);
  }

  async #fetchAhead(chunks: readonly TracedChunk[], shape: PrefetchShape): Promise<void> {
    const readers = this.blobs.map(({ reader }) => reader);
    const rate = this.#rate === undefined ? {} : { rate: this.#rate };
    await prefetch(readers, chunks, { signal: this.#stopAhead.signal, shape, ...rate });
  }

  /** Aborted when nothing need be fetched ahead any more. */
  get wanted(): AbortSignal {
    return this.#stopAhead.signal;
  }

  /** Fetches what the kernel may read the next time beside what it read this time. Never rejects. */
  async fillMargins(): Promise<void> {
    const { touched } = this.#recorder;
    await Promise.all(
      this.blobs.map(({ reader, cached: { map } }, blob) =>
        reader.prefetch(chunksInMargins(map, touched[blob] ?? readyMap(0)), SCATTERED.most),
      ),
    );
  }

  /**
   * Waits a little for what is on its way, or to be asked for. It is there because somebody read it, or is about to:
   * thrown away, it would cost the next container on this image a request.
   */
  async settle(work: Promise<void> = Promise.resolve()): Promise<void> {
    this.#stopAhead.abort();
    const patience = new AbortController();
    const late = setTimeout(SETTLE_MS, undefined, { signal: patience.signal }).catch(() => {});
    await Promise.race([
      late,
      work.then(() => Promise.all(this.blobs.map(({ reader }) => reader.settled()))),
    ]);
    patience.abort();
  }

  /** Gives up requests under way and lets go of the cache files. Call when nothing reads any more. */
  [Symbol.dispose](): void {
    this.#stopAhead.abort();
    this.#stop.abort();
    for (const blob of this.blobs) blob.cached[Symbol.dispose]();
  }
}

interface Serving {
  readonly hasher: ChunkHasher;
  readonly limiter: Limiter;
  readonly signal: AbortSignal;
  readonly onAsked: (chunks: readonly number[]) => void;
  readonly cost: SourceCost;
}

function serve(
  options: ImageBlobsOptions,
  index: number,
  map: ChunkMap,
  serving: Serving,
  touched: ReadyMap,
): ServedBlob {
  const { cache, fetcher, log, silence, threads } = options;
  const cached = cache.open(map);
  return {
    cached,
    reader: new BlobReader({
      blob: cached,
      fetcher,
      log,
      ...serving,
      ...(silence === undefined ? {} : { silence }),
      ...(threads === undefined ? {} : { threads }),
    }),
    device: {
      index,
      name: `${index}`,
      fd: cached.fd,
      size: map.uncompressedSize,
      view: cached.view,
      touched,
      counters: new Uint32Array(new SharedArrayBuffer(8)),
    },
  };
}
