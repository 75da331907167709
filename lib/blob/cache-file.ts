/**
 * One data file of the cache, with everything that is known about its chunks.
 *
 * @module
 */
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { errnoName, flock, LOCK } from "../../ffi/libc.ts";
import { sameBytes } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { type ChunkMap, chunkDigest } from "../rafs/chunk-map.ts";
import { type Claim, ClaimLog } from "./claim-log.ts";
import { BLOCK, isReady, type ReadyMap, readyMap, setReady } from "./ready-map.ts";

export interface Known {
  readonly length: number;
  readonly digest: Uint8Array;
  /** "absent": an image describes it, nobody has fetched it. */
  state: "absent" | "suspect" | "stored";
}

/** An image that reads from the file: its ready map learns of every chunk that is stored. */
export interface CacheUser {
  readonly ready: ReadyMap;
}

/** One data file, with everything known about it; shared by the images of this process that use the blob. */
export class CacheFile implements Disposable {
  readonly path: string;
  readonly fd: number;
  readonly users = new Set<CacheUser>();
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
