/**
 * One image's view of a blob's cache file.
 *
 * @module
 */
import { readSync, writeSync, writevSync } from "node:fs";
import { dropPages } from "../../ffi/libc.ts";
import { type ChunkHasher, sameBytes } from "../base/digest.ts";
import { NydusError, toNydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { type ChunkMap, chunkDigest, isPieced } from "../rafs/chunk-map.ts";
import type { CacheFile } from "./cache-file.ts";
import type { CacheView } from "./cache-view.ts";
import { BLOCK, clearReady, countReady, isReady, readyMap, setGapsReady, setReady } from "./ready-map.ts";

/** IOV_MAX of Linux. */
const MAX_VECTORS = 1024;
const ZEROS = new Uint8Array(BLOCK);

/** A chunk by its index in the map, and its verified content. */
export interface FetchedChunk {
  readonly chunk: number;
  readonly data: Uint8Array;
}

/** What a view of a file needs of the cache as a whole. */
export interface CachedBlobOptions {
  readonly map: ChunkMap;
  readonly file: CacheFile;
  /** Makes room for so many bytes. @returns false when the quota has none */
  readonly makeRoom: (bytes: number) => boolean;
  /** Told after each attempt to store something: why it failed, or that it did not. */
  readonly stored: (failure: NydusError | undefined) => void;
  /** Called once the view is closed. */
  readonly release: () => void;
}

export class CachedBlob implements Disposable {
  readonly map: ChunkMap;
  /** `ready`: the chunks that are in the file, and the gaps between this image's chunks. */
  readonly view: CacheView;
  readonly file: CacheFile;
  readonly #options: CachedBlobOptions;
  /** Blocks between chunks: they are ready always. */
  readonly #gaps: number;
  #closed = false;

  constructor(options: CachedBlobOptions) {
    const { map, file } = options;
    this.map = map;
    this.file = file;
    this.#options = options;
    const ready = readyMap(map.uncompressedSize);
    this.view = { ready, drops: file.drops, used: file.used, clock: file.clock };
    setGapsReady(ready, map);
    this.#gaps = countReady(ready);
    for (let i = 0; i < map.count; i++) {
      const { offset, length } = this.#place(i);
      if (isThere(file, offset)) setReady(ready, offset, offset + length);
    }
    file.users.add(this);
  }

  #place(chunk: number): { offset: number; length: number } {
    const { uncompressedOffset, uncompressedLength } = this.map;
    return { offset: uncompressedOffset[chunk] ?? 0, length: uncompressedLength[chunk] ?? 0 };
  }

  /** Descriptor of the data file, for serving threads: reads of whole blocks into memory aligned to them. */
  get fd(): number {
    return this.file.fd;
  }

  get path(): string {
    return this.file.path;
  }

  has(chunk: number): boolean {
    const { offset, length } = this.#place(chunk);
    return isReady(this.view.ready, offset, offset + length);
  }

  /** Whether the chunk was there before an unclean stop and has not been checked yet. */
  isSuspect(chunk: number): boolean {
    return this.file.stateOf(this.#place(chunk).offset) === "suspect";
  }

  /** Bytes of the image's chunks, and of those that are in the file; in whole blocks. */
  get amount(): { readonly all: number; readonly cached: number } {
    const all = Math.ceil(this.map.uncompressedSize / BLOCK) - this.#gaps;
    return { all: all * BLOCK, cached: (countReady(this.view.ready) - this.#gaps) * BLOCK };
  }

  get complete(): boolean {
    for (let i = 0; i < this.map.count; i++) if (!this.has(i)) return false;
    return true;
  }

  /**
   * Whether the kernel may read the file by itself: every chunk of the image was read back and is whole, and nobody
   * else takes what a mount stands on away. What has no digest of its own cannot be read back.
   */
  get isProven(): boolean {
    for (let i = 0; i < this.map.count; i++)
      if (this.file.stateOf(this.#place(i).offset) !== "checked") return false;
    return this.file.isGuarded;
  }

  /** Bytes of chunks that were not read back yet. */
  get unproven(): number {
    let bytes = 0;
    for (let i = 0; i < this.map.count; i++) {
      const { offset, length } = this.#place(i);
      if (this.file.stateOf(offset) !== "checked") bytes += length;
    }
    return bytes;
  }

  /** Reads a chunk back. One that is damaged does not count any more; what is in its place stays. */
  check(chunk: number, hasher: ChunkHasher, scope: "all" | "unchecked"): "whole" | "damaged" | "skipped" {
    this.#checkOpen();
    const { offset, length } = this.#place(chunk);
    const state = this.file.stateOf(offset);
    if (state === "absent" || isPieced(this.map, chunk) || (scope === "unchecked" && state === "checked"))
      return "skipped";
    if (scope === "all") dropPages(this.fd, offset, length);
    if (this.#isWhole(chunk, hasher)) {
      this.file.mark([offset], "checked");
      return "whole";
    }
    this.file.drop([offset]);
    return "damaged";
  }

  #isWhole(chunk: number, hasher: ChunkHasher): boolean {
    const { offset, length } = this.#place(chunk);
    const data = Buffer.allocUnsafe(length);
    this.file.buffered();
    try {
      if (readSync(this.fd, data, 0, length, offset) !== length) return false;
    } catch {
      // A disk that cannot read it any more has lost it.
      return false;
    }
    return sameBytes(hasher.digest(data), chunkDigest(this.map, chunk));
  }

  /** While somebody reads the range, nothing of it leaves the cache. */
  hold(offset: number, length: number): Disposable {
    this.file.touch(offset, length);
    return this.file.hold(offset, length);
  }

  /**
   * The data was there before an unclean stop and is not believed yet: check it now.
   * @returns whether the chunk is ready
   */
  recheck(chunk: number, hasher: ChunkHasher): boolean {
    this.#checkOpen();
    if (!this.isSuspect(chunk)) return false;
    const { offset } = this.#place(chunk);
    // What was put together of pieces has no digest of its own: it is fetched again.
    if (!isPieced(this.map, chunk) && this.#isWhole(chunk, hasher)) {
      this.file.mark([offset], "checked");
      return true;
    }
    this.file.drop([offset]);
    return false;
  }

  /** What the file has of the range. Precondition: all of it is ready, and held. */
  read(offset: number, into: Uint8Array): void {
    this.#checkOpen();
    this.file.buffered();
    for (let done = 0; done < into.byteLength; ) {
      const count = readSync(this.fd, into, done, into.byteLength - done, offset + done);
      if (count === 0)
        throw new NydusError("internal", `Cannot read "${this.path}": it is shorter than its blob`);
      done += count;
    }
  }

  /**
   * Stores chunks, those that lie side by side with one write.
   * Precondition: the data passed its digest. @throws no_space and others; the chunks are then simply not cached
   */
  store(chunks: readonly FetchedChunk[]): void {
    this.#checkOpen();
    try {
      this.#store(chunks);
      this.#options.stored(undefined);
    } catch (error) {
      const failure = toNydusError(error, `store chunks in "${this.path}"`);
      this.#options.stored(failure);
      throw failure;
    }
  }

  #store(chunks: readonly FetchedChunk[]): void {
    const news = chunks.filter(({ chunk }) => !this.has(chunk));
    const offsets = news.map(({ chunk }) => this.#place(chunk).offset);
    const bytes = news.reduce((sum, { data }) => sum + alignUp(data.byteLength, BLOCK), 0);
    if (!this.#options.makeRoom(bytes))
      throw new NydusError(
        "no_space",
        `Cannot store chunks in "${this.path}": the cache is full of what is in use`,
      );
    this.file.buffered();
    try {
      for (const group of contiguous(news, this.map))
        writeFully(this.fd, padded(group), this.#place(group[0]?.chunk ?? 0).offset);
      this.file.mark(offsets, "stored");
    } catch (error) {
      this.file.punchUnclaimed(offsets);
      throw error;
    }
    for (const { chunk, data } of news) this.file.touch(this.#place(chunk).offset, data.byteLength);
  }

  /** What a source still sends, and reads that wait for it, come late: the descriptor may be another file's by then. */
  #checkOpen(): void {
    if (this.#closed)
      throw new NydusError("unavailable", `Cannot use "${this.path}": the image is not mounted any more`);
  }

  /** Serving threads may know the view for longer, and somebody may still read there: for them all of it is dropped. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.file.users.delete(this);
    clearReady(this.view.ready, 0, this.map.uncompressedSize);
    Atomics.add(this.view.drops, 0, 1);
    this.#options.release();
  }
}

function isThere(file: CacheFile, offset: number): boolean {
  const state = file.stateOf(offset);
  return state === "stored" || state === "checked";
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
