/**
 * The chunk cache of a node: one sparse data file a blob, each chunk at its uncompressed offset, and beside it the
 * list of chunks that are there (`claim-log.ts`). Only chunks that passed their digest enter.
 *
 * Images share blobs (base layers) but describe them independently, and a hostile image may describe another image's
 * blob with other chunk boundaries or digests. One cache file therefore holds only descriptions that agree: a chunk
 * must match every other one of the same place, and overlap none. An image that disagrees gets a file of its own.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { flock, LOCK } from "../../ffi/libc.ts";
import { NydusError } from "../base/error.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { CacheFile } from "./cache-file.ts";
import { CachedBlob } from "./cached-blob.ts";
import { MAX_BLOB_BYTES } from "./ready-map.ts";

/** The cache directory, root's alone. Opening the same blob again shares its file. */
export class BlobCache implements Disposable {
  readonly directory: string;
  readonly #open = new Map<string, CacheFile>();

  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(join(directory, "blobs"), { recursive: true, mode: 0o700 });
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
      return new CachedBlob(map, file, () => {
        if (file.users.size === 0) this.#close(name, file);
      });
    }
    throw new NydusError("busy", `Cannot open a cache file for blob "${map.blobId}": all are in use`);
  }

  /** Bytes on disk of everything cached of a blob. */
  usage(blobId: string): number {
    return this.#directoriesOf(blobId)
      .flatMap(
        (name) => statSync(join(this.directory, "blobs", name, "data"), { throwIfNoEntry: false }) ?? [],
      )
      .reduce((sum, data) => sum + data.blocks * 512, 0);
  }

  #directoriesOf(blobId: string): string[] {
    return readdirSync(join(this.directory, "blobs")).filter((name) => name.split("-")[0] === blobId);
  }

  /**
   * Deletes what no image of this process uses, no other process holds, and `keep` does not name.
   * @returns the directories that went
   */
  collect(keep: ReadonlySet<string>): string[] {
    const root = join(this.directory, "blobs");
    return readdirSync(root).filter((name) => {
      if (keep.has(name.split("-")[0] ?? "") || this.#open.has(name)) return false;
      return removeUnlessHeld(join(root, name));
    });
  }

  #file(name: string, map: ChunkMap): CacheFile | undefined {
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const file = CacheFile.open(join(this.directory, "blobs", name), map, name.includes(".tmp"));
    if (file !== undefined) this.#open.set(name, file);
    return file;
  }

  #close(name: string, file: CacheFile): void {
    this.#open.delete(name);
    file[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const [name, file] of this.#open) this.#close(name, file);
  }
}

/** The claims go first: data without claims is nothing, claims without data would be lies. */
function removeUnlessHeld(directory: string): boolean {
  const fd = openSync(join(directory, "data"), "a", 0o600);
  try {
    if (flock(fd, LOCK.EX | LOCK.NB) < 0) return false;
    rmSync(join(directory, "claims"), { force: true });
    rmSync(directory, { recursive: true, force: true });
    return true;
  } finally {
    closeSync(fd);
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
