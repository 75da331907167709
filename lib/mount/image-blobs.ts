/**
 * The blobs of one mounted image: for each, its view of the cache, its reader, and what threads need to serve it.
 *
 * @module
 */
import { type ChunkHasher, chunkHasher } from "../base/digest.ts";
import { Limiter } from "../base/limiter.ts";
import type { Logger } from "../base/log.ts";
import type { BlobCache } from "../blob/cache.ts";
import type { CachedBlob } from "../blob/cached-blob.ts";
import { BlobReader } from "../blob/reader.ts";
import type { Fetcher } from "../content/content.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import type { Device } from "./fuse-messages.ts";

/** Requests under way at once for one image. */
const CONCURRENT_REQUESTS = 8;

export interface ServedBlob {
  readonly cached: CachedBlob;
  readonly reader: BlobReader;
  readonly device: Device;
}

export interface ImageBlobsOptions {
  readonly maps: readonly ChunkMap[];
  readonly cache: BlobCache;
  readonly fetcher: Fetcher;
  readonly log: Logger;
  /** The number of the blob's device, never used before for another; the name follows from it. */
  readonly deviceNumber: (blob: number) => number;
}

export class ImageBlobs implements Disposable {
  readonly blobs: readonly ServedBlob[];
  readonly #stop: AbortController;

  private constructor(blobs: readonly ServedBlob[], stop: AbortController) {
    this.blobs = blobs;
    this.#stop = stop;
  }

  static async open(options: ImageBlobsOptions): Promise<ImageBlobs> {
    const stop = new AbortController();
    const limiter = new Limiter(CONCURRENT_REQUESTS);
    const served: ServedBlob[] = [];
    try {
      for (const [blob, map] of options.maps.entries()) {
        const hasher = await chunkHasher(map.digester);
        served.push(
          serve(options, options.deviceNumber(blob), map, { hasher, limiter, signal: stop.signal }),
        );
      }
    } catch (error) {
      for (const blob of served) blob.cached[Symbol.dispose]();
      throw error;
    }
    return new ImageBlobs(served, stop);
  }

  get devices(): readonly Device[] {
    return this.blobs.map((blob) => blob.device);
  }

  /** Gives up requests under way and lets go of the cache files. Call when nothing reads any more. */
  [Symbol.dispose](): void {
    this.#stop.abort();
    for (const blob of this.blobs) blob.cached[Symbol.dispose]();
  }
}

interface Serving {
  readonly hasher: ChunkHasher;
  readonly limiter: Limiter;
  readonly signal: AbortSignal;
}

function serve(options: ImageBlobsOptions, index: number, map: ChunkMap, serving: Serving): ServedBlob {
  const { cache, fetcher, log } = options;
  const cached = cache.open(map);
  return {
    cached,
    reader: new BlobReader({ blob: cached, fetcher, log, ...serving }),
    device: {
      index,
      name: `${index}`,
      fd: cached.fd,
      size: map.uncompressedSize,
      ready: cached.ready,
      counters: new Uint32Array(new SharedArrayBuffer(8)),
    },
  };
}
