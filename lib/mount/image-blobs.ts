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
import { chunksInMargins } from "../blob/margin.ts";
import { type PrefetchShape, prefetch, SCATTERED, STREAM } from "../blob/prefetcher.ts";
import { SourceCost } from "../blob/read-ahead.ts";
import { BlobReader } from "../blob/reader.ts";
import { type ReadyMap, readyMap } from "../blob/ready-map.ts";
import { type Trace, type TracedChunk, tracedChunks } from "../blob/trace.ts";
import { TraceRecorder } from "../blob/trace-recorder.ts";
import type { Fetcher } from "../content/content.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import type { Device } from "./fuse-messages.ts";

/** Requests under way at once for one image. */
const CONCURRENT_REQUESTS = 8;

/** An unmount takes at most this much longer for requests that are under way. */
const SETTLE_MS = 1000;

export interface ServedBlob {
  readonly cached: CachedBlob;
  readonly reader: BlobReader;
  readonly device: Device;
}

export interface ImageBlobsOptions {
  readonly maps: readonly ChunkMap[];
  readonly cache: BlobCache;
  readonly fetcher: Fetcher;
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

  private constructor(
    blobs: readonly ServedBlob[],
    { stop, recorder, rate }: { stop: AbortController; recorder: TraceRecorder; rate: ByteRate | undefined },
  ) {
    this.blobs = blobs;
    this.#stop = stop;
    this.#recorder = recorder;
    this.#rate = rate;
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
    return new ImageBlobs(served, { stop, recorder, rate: options.prefetchRate });
  }

  get devices(): readonly Device[] {
    return this.blobs.map((blob) => blob.device);
  }

  /** That of a blob of the image. */
  device(blobId: string): Device {
    const blob = this.blobs.find(({ cached }) => cached.map.blobId === blobId);
    if (blob !== undefined) return blob.device;
    throw new NydusError("internal", `Cannot serve blob "${blobId}": the image has no such blob`);
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
  const { cache, fetcher, log, silence } = options;
  const cached = cache.open(map);
  return {
    cached,
    reader: new BlobReader({
      blob: cached,
      fetcher,
      log,
      ...serving,
      ...(silence === undefined ? {} : { silence }),
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
