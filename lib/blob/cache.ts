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
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
  writevSync,
} from "node:fs";
import { join } from "node:path";
import { errnoName, flock, LOCK } from "../../ffi/libc.ts";
import { type ChunkHasher, sameBytes } from "../base/digest.ts";
import { NydusError, toNydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { type ChunkMap, chunkDigest } from "../rafs/chunk-map.ts";
import { type Claim, ClaimLog } from "./claim-log.ts";
import {
  BLOCK,
  isReady,
  MAX_BLOB_BYTES,
  type ReadyMap,
  readyMap,
  setGapsReady,
  setReady,
} from "./ready-map.ts";

/** IOV_MAX of Linux. */
const MAX_VECTORS = 1024;
const ZEROS = new Uint8Array(BLOCK);

/** A chunk by its index in the map, and its verified content. */
export interface FetchedChunk {
  readonly chunk: number;
  readonly data: Uint8Array;
}

interface Known {
  readonly length: number;
  readonly digest: Uint8Array;
  /** "absent": an image describes it, nobody has fetched it. */
  state: "absent" | "suspect" | "stored";
}

/** One data file, with everything known about it; shared by the images of this process that use the blob. */
class CacheFile implements Disposable {
  readonly path: string;
  readonly fd: number;
  readonly users = new Set<CachedBlob>();
  readonly #directory: string;
  readonly #temporary: boolean;
  readonly #log: ClaimLog;
  readonly #known = new Map<number, Known>();
  readonly #blocks: ReadyMap;

  private constructor(
    directory: string,
    temporary: boolean,
    fd: number,
    log: ClaimLog,
    claims: readonly Claim[],
    size: number,
  ) {
    this.#directory = directory;
    this.#temporary = temporary;
    this.path = join(directory, "data");
    this.fd = fd;
    this.#log = log;
    this.#blocks = readyMap(size);
    for (const claim of claims) this.#load(claim, size);
  }

  /** @returns undefined when another process has it */
  static open(directory: string, map: ChunkMap, temporary: boolean): CacheFile | undefined {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const fd = openSync(join(directory, "data"), "a+", 0o600);
    const locked = flock(fd, LOCK.EX | LOCK.NB);
    if (locked < 0) {
      closeSync(fd);
      if (errnoName(-locked) === "EAGAIN") return undefined;
      throw new NydusError("internal", `Cannot lock "${directory}": ${errnoName(-locked)}`);
    }
    // Positional writes need a descriptor without O_APPEND; the lock stays with the first one's description.
    const data = openSync(join(directory, "data"), "r+");
    if (fstatSync(data).size < map.uncompressedSize) ftruncateSync(data, map.uncompressedSize);
    const { log, claims } = ClaimLog.open(join(directory, "claims"), data, map.digester);
    const file = new CacheFile(
      directory,
      temporary,
      data,
      log,
      claims,
      Math.max(fstatSync(data).size, map.uncompressedSize),
    );
    file.#lock = fd;
    return file;
  }

  #lock = -1;

  #load(claim: Claim, size: number): void {
    if (claim.offset % BLOCK !== 0 || claim.offset + claim.length > size) return;
    const state = claim.suspect ? "suspect" : "stored";
    const known = this.#known.get(claim.offset);
    if (known !== undefined && known.length === claim.length && sameBytes(known.digest, claim.digest))
      known.state = state;
    else if (known === undefined) {
      this.#known.set(claim.offset, { length: claim.length, digest: claim.digest, state });
      setReady(this.#blocks, claim.offset, claim.offset + claim.length);
    }
  }

  /** Whether every chunk of the map equals what is known at its place, or touches nothing known. */
  agreesWith(map: ChunkMap): boolean {
    for (let i = 0; i < map.count; i++) {
      const offset = map.uncompressedOffset[i] ?? 0;
      const length = map.uncompressedLength[i] ?? 0;
      const known = this.#known.get(offset);
      if (known === undefined) {
        if (this.#touches(offset, offset + length)) return false;
      } else if (known.length !== length || !sameBytes(known.digest, chunkDigest(map, i))) return false;
    }
    return true;
  }

  /** Blocks past the bitmap's end belong to nobody: a larger map of the same blob disagrees anyway. */
  #touches(start: number, end: number): boolean {
    for (let at = start; at < end; at += BLOCK) if (isReady(this.#blocks, at, at + 1)) return true;
    return false;
  }

  /** Precondition: `agreesWith(map)`. */
  reserve(map: ChunkMap): void {
    for (let i = 0; i < map.count; i++) {
      const offset = map.uncompressedOffset[i] ?? 0;
      if (this.#known.has(offset)) continue;
      const length = map.uncompressedLength[i] ?? 0;
      this.#known.set(offset, { length, digest: chunkDigest(map, i), state: "absent" });
      setReady(this.#blocks, offset, offset + length);
    }
  }

  get capacity(): number {
    return (this.#blocks.length - 1) * 32 * BLOCK;
  }

  known(offset: number): Known | undefined {
    return this.#known.get(offset);
  }

  /** The chunks' data is in the file: claim it, then show it to all users. */
  markStored(offsets: readonly number[]): void {
    const news = offsets.flatMap((offset) => {
      const known = this.#known.get(offset);
      return known === undefined || known.state === "stored" ? [] : [{ offset, known }];
    });
    this.#log.append(
      news.map(({ offset, known: { length, digest } }) => ({ offset, length, digest, suspect: false })),
    );
    for (const { offset, known } of news) {
      known.state = "stored";
      for (const user of this.users) setReady(user.ready, offset, offset + known.length);
    }
  }

  [Symbol.dispose](): void {
    this.#log[Symbol.dispose]();
    closeSync(this.fd);
    closeSync(this.#lock);
    if (this.#temporary) rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** One image's view of a blob's cache file. */
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
