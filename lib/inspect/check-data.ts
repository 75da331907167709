/**
 * Verifies all data of an image: every blob against its own digest, and every chunk against the bootstrap's, whoever uses
 * it. A blob is read once, from front to back, and nothing of it is kept.
 *
 * @module
 */
import { digestFromHex } from "../base/digest.ts";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import { type Progress, silent, type Task } from "../base/progress.ts";
import { BlobStream } from "../blob/blob-stream.ts";
import { ChunkContents } from "../blob/chunk-content.ts";
import type { NydusImage } from "../image/nydus-image.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { pathsOfChunks } from "./chunk-users.ts";

/** Something wrong with a blob. */
export interface DataViolation {
  /** Hex id. */
  readonly blob: string;
  /** In the stored blob, in bytes; 0 for the blob as a whole. */
  readonly offset: number;
  /** Of the chunk in the blob's map; undefined for the blob as a whole. */
  readonly chunk?: number;
  /** Of files that hold the chunk; a few of them when there are many. */
  readonly paths: readonly string[];
  readonly message: string;
}

export interface DataReport {
  readonly blobs: number;
  readonly chunks: number;
  /** Stored bytes that were read. */
  readonly bytes: number;
  /** At most a thousand. */
  readonly violations: readonly DataViolation[];
}

export interface CheckDataOptions {
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/** A damaged blob can have millions of bad chunks. */
const MAX_VIOLATIONS = 1000;

/** @throws what the source throws that is no damage: unavailable, denied, cancelled */
export async function checkData(image: NydusImage, options: CheckDataOptions = {}): Promise<DataReport> {
  const maps = await image.chunkMaps(options.signal);
  const check = new DataCheck(image, options);
  for (const map of maps) await check.blob(map);
  return { ...check.counts, violations: check.violations(maps) };
}

/** Without the paths, which are looked up at the end for all together. */
type Found = Omit<DataViolation, "paths">;

class DataCheck {
  readonly counts = { blobs: 0, chunks: 0, bytes: 0 };
  readonly #image: NydusImage;
  readonly #options: CheckDataOptions;
  readonly #found: Found[] = [];
  readonly #sizes: ReadonlyMap<string, number>;

  constructor(image: NydusImage, options: CheckDataOptions) {
    this.#image = image;
    this.#options = options;
    this.#sizes = new Map(image.image?.manifest.layers.map(({ digest, size }) => [digest, size]));
  }

  violations(maps: readonly ChunkMap[]): DataViolation[] {
    const paths = pathsOfChunks(this.#image, maps, this.#found);
    return this.#found.map((found) => ({ ...found, paths: paths.get(found) ?? [] }));
  }

  async blob(map: ChunkMap): Promise<void> {
    const { progress = silent } = this.#options;
    const digest = digestFromHex(map.blobId);
    // A bootstrap file does not say how large the whole blob is: then only the part that has chunks is read.
    const known = this.#sizes.get(digest);
    const descriptor = { mediaType: MEDIA.nydusBlob, digest, size: known ?? map.compressedSize };
    const task = progress.task(`blob ${map.blobId.slice(0, 12)}`, descriptor.size);
    const before = this.#found.length;
    this.counts.blobs++;
    try {
      await using stream = new BlobStream(await this.#open(descriptor, task));
      await this.#chunks(map, stream);
      const whole = await stream.finish();
      this.counts.bytes += whole.size;
      if (known !== undefined && whole.digest !== digest)
        throw corrupt(`Cannot trust the blob: its digest is ${whole.digest}`);
    } catch (error) {
      this.#add(error, { blob: map.blobId, offset: 0 });
    }
    task.finish(this.#found.length === before ? "good" : "damaged");
  }

  async #open(descriptor: Descriptor, task: Task): Promise<ReadableStream<Uint8Array>> {
    const { signal } = this.#options;
    const range = { start: 0, end: descriptor.size };
    const body = await this.#image.fetcher.fetch(descriptor, { range, ...(signal && { signal }) });
    const count = new TransformStream<Uint8Array, Uint8Array>({
      transform: (bytes, out) => {
        task.advance(bytes.byteLength);
        out.enqueue(bytes);
      },
    });
    return body.pipeThrough(count);
  }

  async #chunks(map: ChunkMap, stream: BlobStream): Promise<void> {
    const contents = new ChunkContents(this.#image.hasher);
    for (const index of inStoredOrder(map)) {
      this.#options.signal?.throwIfAborted();
      const offset = map.compressedOffset[index] ?? 0;
      const stored = await stream.take(offset, map.compressedLength[index] ?? 0);
      this.counts.chunks++;
      try {
        contents.of({ map, index, stored });
      } catch (error) {
        this.#add(error, { blob: map.blobId, offset, chunk: index });
      }
    }
  }

  /** Only damage is a violation. */
  #add(error: unknown, place: Omit<Found, "message">): void {
    const known = toNydusError(error, "check a blob");
    const isDamage = error instanceof NydusError && DAMAGE.has(known.code);
    if (!isDamage) throw known;
    if (this.#found.length < MAX_VIOLATIONS) this.#found.push({ ...place, message: known.message });
  }
}

const DAMAGE: ReadonlySet<string> = new Set(["corrupt", "not_found", "unsupported"]);

function inStoredOrder({ count, compressedOffset }: ChunkMap): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  return order.sort((a, b) => (compressedOffset[a] ?? 0) - (compressedOffset[b] ?? 0));
}
