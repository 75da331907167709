/**
 * From a request to what can be mounted: a checked bootstrap, and its blobs behind the cache.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { ByteRate } from "../base/byte-rate.ts";
import type { Logger } from "../base/log.ts";
import type { BlobCache } from "../blob/cache.ts";
import { DecodeThreads } from "../blob/decode-threads.ts";
import { loadChunkMaps, withPackedLayers } from "../blob/load-chunk-maps.ts";
import type { Fetcher } from "../content/content.ts";
import { withLayerBlobs } from "../image/adopted.ts";
import { DEFAULT_READ_TIMEOUT } from "../registry/access.ts";
import { type CheckedBootstrap, openChecked } from "./checked-bootstrap.ts";
import { ImageBlobs } from "./image-blobs.ts";
import { type ImageLists, imageLists } from "./image-lists.ts";
import type { ImageSource, MountRequest } from "./mount-request.ts";
import type { Traces } from "./traces.ts";

export type FetcherOf = (source: ImageSource) => Promise<Fetcher & Partial<AsyncDisposable>>;

interface Parts {
  readonly cacheDirectory: string;
  readonly cache: BlobCache;
  readonly traces: Traces;
  readonly fetcherOf: FetcherOf;
  readonly log: Logger;
}

export interface OpenedImage {
  readonly checked: CheckedBootstrap;
  readonly blobs: ImageBlobs;
  readonly fetcher: Fetcher & Partial<AsyncDisposable>;
  /** What the image is, for people. */
  readonly format: string;
  readonly lists: ImageLists;
}

/** One core fetches and replies; the others decode. */
const DECODERS = Math.min(4, Math.max(1, availableParallelism() - 1));

/** Garbage and compiled code: 7 MB more than garbage alone, and a millisecond at the next miss. */
function giveBack(): void {
  Bun.gc(true);
  Bun.shrink();
}

export class ImageOpener implements AsyncDisposable {
  readonly #parts: Parts;
  /** Garbage of a mount or of many reads goes back to the system when all is quiet: threads serve hits meanwhile. */
  readonly #threads = new DecodeThreads(DECODERS, giveBack);
  /** One for all mounts; the first that asks for a bound sets it. */
  #rate: ByteRate | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** @param deviceNumber of a blob, by its position in the image */
  async open(request: MountRequest, deviceNumber: (blob: number) => number): Promise<OpenedImage> {
    const { cacheDirectory, cache, traces, log } = this.#parts;
    const checked = await openChecked(request.bootstrap, cacheDirectory);
    const fetcher = await this.#parts.fetcherOf(request.source);
    const known = request.trace !== undefined || traces.has(checked.digest);
    const lists = imageLists(request, fetcher, { early: !known });
    const directory = dirname(request.bootstrap);
    const keep = join(cacheDirectory, "chunk-info", checked.digest);
    const source = withLayerBlobs(request.bootstrap, fetcher);
    const blobs = await ImageBlobs.open({
      maps: await loadChunkMaps(
        checked.image,
        { fetcher: source, directory, keep, allowUnverified: request.allowUnverified === true },
        { tarParts: "pieces", chunkTableComplete: checked.chunkTableComplete },
      ),
      cache,
      fetcher: withPackedLayers(checked.image, keep, source),
      threads: this.#threads,
      silence: readTimeout(request.source),
      prefetchRate: this.#prefetchRate(request),
      log: log.with({ mount: request.id }),
      deviceNumber,
    });
    const format = request.format ?? `RAFS v${checked.image.version}`;
    return { checked, blobs, fetcher, format, lists };
  }

  #prefetchRate({ prefetch }: MountRequest): ByteRate | undefined {
    if (prefetch?.bandwidth !== undefined) this.#rate ??= new ByteRate(prefetch.bandwidth);
    return this.#rate;
  }

  /** An image was opened: its garbage may go when nothing happens for a while. */
  restSoon(): void {
    this.#threads.restSoon();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#threads[Symbol.asyncDispose]();
  }
}

/** Milliseconds. */
function readTimeout(source: ImageSource): number {
  return (source.readTimeout ?? DEFAULT_READ_TIMEOUT) * 1000;
}
