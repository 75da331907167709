/**
 * The chunk cache of a node: one sparse data file a blob, each chunk at its uncompressed offset, and beside it the
 * table of chunks that are there (`claims.ts`). Only chunks that passed their digest enter.
 *
 * Images share blobs (base layers) but describe them independently, and a hostile image may describe another image's
 * blob with other chunk boundaries or digests. One cache file therefore holds only descriptions that agree: a chunk
 * must match every other one of the same place, and overlap none. An image that disagrees gets a file of its own.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { NydusError } from "../base/error.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { CacheDirectory } from "./cache-directory.ts";
import { CacheFile } from "./cache-file.ts";
import type { CacheStatus } from "./cache-status.ts";
import { CachedBlob } from "./cached-blob.ts";
import { Eviction } from "./eviction.ts";
import { MAX_BLOB_BYTES } from "./ready-map.ts";
import type { ScrubCounts } from "./scrub.ts";

export interface CacheOptions {
  /** Bytes of data on disk; without it, as much as there is room. */
  readonly limit?: number | undefined;
}

/** The cache directory, root's alone. Opening the same blob again shares its file. */
export class BlobCache implements Disposable {
  readonly directory: CacheDirectory;
  readonly #open = new Map<string, CacheFile>();
  readonly #clock = new Uint32Array(new SharedArrayBuffer(4));
  readonly #options: CacheOptions;
  readonly #eviction: Eviction | undefined;
  #trouble: string | undefined;
  /** What scrubs found since the process started. */
  readonly scrubbed: ScrubCounts = { checkedChunks: 0, damagedChunks: 0 };

  constructor(directory: string, options: CacheOptions = {}) {
    this.directory = new CacheDirectory(directory);
    this.#options = options;
    const { limit } = options;
    if (limit !== undefined)
      this.#eviction = new Eviction({ directory: this.directory, open: this.#open, limit });
  }

  open(map: ChunkMap): CachedBlob {
    if (map.uncompressedSize > MAX_BLOB_BYTES) {
      throw new NydusError(
        "unsupported",
        `Cannot cache blob "${map.blobId}": it claims ${map.uncompressedSize} bytes`,
      );
    }
    for (const name of candidates(map)) {
      const file = this.#file(name, map);
      if (file === undefined || file.capacity < map.uncompressedSize || !file.agreesWith(map)) {
        if (file?.users.size === 0) this.#close(name, file);
        continue;
      }
      file.reserve(map);
      return new CachedBlob({
        map,
        file,
        makeRoom: (bytes) => this.#makeRoom(bytes),
        stored: (failure) => {
          this.#trouble = failure?.message;
        },
        release: () => {
          if (file.users.size === 0) this.#close(name, file);
        },
      });
    }
    throw new NydusError("busy", `Cannot open a cache file for blob "${map.blobId}": all are in use`);
  }

  #makeRoom(bytes: number): boolean {
    Atomics.add(this.#clock, 0, 1);
    return this.#eviction?.makeRoom(bytes) ?? true;
  }

  /** Bytes on disk of everything cached of a blob. */
  usage(blobId: string): number {
    return this.directory.usage(blobId);
  }

  get status(): CacheStatus {
    const { limit } = this.#options;
    return {
      directory: this.directory.path,
      bytes: this.directory.totalBytes(),
      ...(limit === undefined ? {} : { limit }),
      evictedBytes: this.#eviction?.evictedBytes ?? 0,
      ...this.scrubbed,
      ...(this.#trouble === undefined ? {} : { trouble: this.#trouble }),
    };
  }

  #file(name: string, map: ChunkMap): CacheFile | undefined {
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const options = { temporary: name.includes(".tmp"), clock: this.#clock };
    const file = CacheFile.open(this.directory.of(name), map, options);
    if (file !== undefined) this.#open.set(name, file);
    return file;
  }

  /** As if closed, for a process that ends at once while its threads still read. Nothing may be stored after it. */
  seal(): void {
    for (const file of this.#open.values()) file.seal();
  }

  #close(name: string, file: CacheFile): void {
    this.#open.delete(name);
    file[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const [name, file] of this.#open) this.#close(name, file);
  }
}

/**
 * The shared file; then one for exactly this description of the blob; then one of this process alone, for when other
 * processes hold both.
 */
function candidates(map: ChunkMap): string[] {
  const hash = createHash("sha256").update(map.digester).update(map.digests);
  for (const array of [map.uncompressedOffset, map.uncompressedLength]) {
    hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  }
  const own = `${map.blobId}-${hash.digest("hex").slice(0, 16)}`;
  return [map.blobId, own, `${own}.tmp${process.pid}`];
}
