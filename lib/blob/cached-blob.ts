/**
 * One image's view of a blob's cache file.
 *
 * @module
 */
import { fstatSync, readSync, writeSync, writevSync } from "node:fs";
import { type ChunkHasher, sameBytes } from "../base/digest.ts";
import { toNydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { type ChunkMap, chunkDigest } from "../rafs/chunk-map.ts";
import type { CacheFile } from "./cache-file.ts";
import { BLOCK, isReady, type ReadyMap, readyMap, setGapsReady, setReady } from "./ready-map.ts";

/** IOV_MAX of Linux. */
const MAX_VECTORS = 1024;
const ZEROS = new Uint8Array(BLOCK);

/** A chunk by its index in the map, and its verified content. */
export interface FetchedChunk {
  readonly chunk: number;
  readonly data: Uint8Array;
}

export class CachedBlob implements Disposable {
  readonly map: ChunkMap;
  /** Bits of chunks that are in the file, and of the gaps between this image's chunks. */
  readonly ready: ReadyMap;
  readonly #file: CacheFile;
  readonly #release: () => void;

  constructor(map: ChunkMap, file: CacheFile, release: () => void) {
    this.map = map;
    this.#file = file;
    this.#release = release;
    this.ready = readyMap(map.uncompressedSize);
    setGapsReady(this.ready, map);
    for (let i = 0; i < map.count; i++) {
      const offset = map.uncompressedOffset[i] ?? 0;
      if (file.known(offset)?.state === "stored")
        setReady(this.ready, offset, offset + (map.uncompressedLength[i] ?? 0));
    }
    file.users.add(this);
  }

  /** Descriptor of the data file, for readers in this process. */
  get fd(): number {
    return this.#file.fd;
  }

  get path(): string {
    return this.#file.path;
  }

  has(chunk: number): boolean {
    const offset = this.map.uncompressedOffset[chunk] ?? 0;
    return isReady(this.ready, offset, offset + (this.map.uncompressedLength[chunk] ?? 0));
  }

  /** Whether the chunk was there before an unclean stop and has not been checked yet. */
  isSuspect(chunk: number): boolean {
    return this.#file.known(this.map.uncompressedOffset[chunk] ?? 0)?.state === "suspect";
  }

  get complete(): boolean {
    for (let i = 0; i < this.map.count; i++) if (!this.has(i)) return false;
    return true;
  }

  /**
   * The data was there before an unclean stop and is not believed yet: check it now.
   * @returns whether the chunk is ready
   */
  recheck(chunk: number, hasher: ChunkHasher): boolean {
    const offset = this.map.uncompressedOffset[chunk] ?? 0;
    const known = this.#file.known(offset);
    if (known?.state !== "suspect") return false;
    const data = Buffer.allocUnsafe(known.length);
    const count = readSync(this.fd, data, 0, data.byteLength, offset);
    if (count !== data.byteLength || !sameBytes(hasher.digest(data), chunkDigest(this.map, chunk))) {
      known.state = "absent";
      return false;
    }
    this.#file.markStored([offset]);
    return true;
  }

  /**
   * Stores chunks, those that lie side by side with one write.
   * Precondition: the data passed its digest. @throws no_space and others; the chunks are then simply not cached
   */
  store(chunks: readonly FetchedChunk[]): void {
    try {
      for (const group of contiguous(chunks, this.map)) {
        const offset = this.map.uncompressedOffset[group[0]?.chunk ?? 0] ?? 0;
        writeFully(this.fd, padded(group), offset);
      }
      this.#file.markStored(chunks.map(({ chunk }) => this.map.uncompressedOffset[chunk] ?? 0));
    } catch (error) {
      throw toNydusError(error, `store chunks in "${this.path}"`);
    }
  }

  /** Bytes on disk. */
  get usage(): number {
    return fstatSync(this.fd).blocks * 512;
  }

  [Symbol.dispose](): void {
    this.#file.users.delete(this);
    this.#release();
  }
}

/** Runs of chunks whose places in the uncompressed space follow each other, each of at most `MAX_VECTORS`/2. */
function contiguous(chunks: readonly FetchedChunk[], map: ChunkMap): FetchedChunk[][] {
  const groups: FetchedChunk[][] = [];
  let next = -1;
  for (const fetched of chunks) {
    const offset = map.uncompressedOffset[fetched.chunk] ?? 0;
    const group = groups.at(-1);
    if (group !== undefined && offset === next && group.length * 2 < MAX_VECTORS) group.push(fetched);
    else groups.push([fetched]);
    next = alignUp(offset + fetched.data.byteLength, BLOCK);
  }
  return groups;
}

/** The data of neighbours with the zeros between them, for one pwritev(2). */
function padded(group: readonly FetchedChunk[]): Uint8Array[] {
  return group.flatMap(({ data }, i) => {
    const gap = alignUp(data.byteLength, BLOCK) - data.byteLength;
    return gap === 0 || i === group.length - 1 ? [data] : [data, ZEROS.subarray(0, gap)];
  });
}

function writeFully(fd: number, buffers: readonly Uint8Array[], offset: number): void {
  const total = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
  const written = writevSync(fd, buffers, offset);
  // A short write is rare (a nearly full disk); what is left goes in one piece, and fails if it must.
  if (written < total) {
    const rest = Buffer.concat(buffers).subarray(written);
    for (let done = 0; done < rest.byteLength; )
      done += writeSync(fd, rest, done, rest.byteLength - done, offset + written + done);
  }
}
