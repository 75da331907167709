/**
 * One data file of the cache, with everything that is known about its chunks; shared by the images of this process that
 * use the blob. Chunks come (`markStored`) and go (`drop`); what is held or pinned stays.
 *
 * @module
 */
import { closeSync, fstatSync, ftruncateSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isOpenElsewhere, punchHole } from "../../ffi/libc.ts";
import { alignUp } from "../base/math.ts";
import { type ChunkMap, chunkAt, chunkDigest } from "../rafs/chunk-map.ts";
import { type CacheView, GROUP, lastGroup, touch } from "./cache-view.ts";
import { type ChunkState, type Claim, ClaimTable, type OpenedClaims } from "./claims.ts";
import { DirectReads } from "./direct-reads.ts";
import { Holds } from "./holds.ts";
import { KnownChunks } from "./known-chunks.ts";
import { lockedFile } from "./locked-file.ts";
import { BLOCK, clearReady, isReady, type ReadyMap, readyMap, setReady } from "./ready-map.ts";

/** An image that reads from the file: its ready map learns of every chunk that comes or goes. */
export interface CacheUser {
  readonly map: ChunkMap;
  readonly view: CacheView;
}

export interface CacheFileOptions {
  /** Deleted when closed. */
  readonly temporary: boolean;
  readonly clock: CacheView["clock"];
}

export class CacheFile implements Disposable {
  readonly path: string;
  readonly fd: number;
  readonly users = new Set<CacheUser>();
  readonly drops: CacheView["drops"] = new Int32Array(new SharedArrayBuffer(4));
  readonly used: CacheView["used"];
  readonly clock: CacheView["clock"];
  /** Whether the last user of the file closed it in order. */
  readonly clean: boolean;
  readonly #directory: string;
  readonly #temporary: boolean;
  readonly #table: ClaimTable;
  #known: KnownChunks;
  /** Blocks of chunks that are known, whether they are in the file or not. */
  readonly #blocks: ReadyMap;
  readonly #holds = new Holds();
  readonly #direct: DirectReads;
  #pins = 0;
  #closed = false;

  private constructor(
    directory: string,
    fd: number,
    opened: OpenedClaims,
    size: { readonly found: number; readonly wanted: number },
    { temporary, clock }: CacheFileOptions,
  ) {
    this.#directory = directory;
    this.#temporary = temporary;
    this.path = join(directory, "data");
    this.fd = fd;
    this.#direct = new DirectReads(fd);
    this.#table = opened.table;
    this.clean = opened.clean;
    this.clock = clock;
    const bytes = Math.max(size.found, size.wanted);
    this.#blocks = readyMap(bytes);
    this.used = new Uint32Array(new SharedArrayBuffer(4 * (lastGroup(0, bytes) + 1)));
    // A file that became shorter holds nothing behind its end, whatever is claimed.
    const inside = opened.claims.filter(({ offset, length }) => offset + length <= size.found);
    this.#known = KnownChunks.of(inside.filter((claim) => this.#isUsable(claim)));
  }

  /** @returns undefined when another process has it */
  static open(directory: string, map: ChunkMap, options: CacheFileOptions): CacheFile | undefined {
    const fd = lockedFile(directory);
    if (fd === undefined) return undefined;
    const found = fstatSync(fd).size;
    const size = { found, wanted: map.uncompressedSize };
    if (found < map.uncompressedSize) ftruncateSync(fd, map.uncompressedSize);
    return new CacheFile(
      directory,
      fd,
      ClaimTable.open(join(directory, "claims"), fd, map.digester),
      size,
      options,
    );
  }

  /** Of claims on the same blocks the first one counts. */
  #isUsable({ offset, length }: Claim): boolean {
    if (offset % BLOCK !== 0 || length === 0 || this.#touches(offset, offset + length)) return false;
    setReady(this.#blocks, offset, offset + length);
    return true;
  }

  /** Whether every chunk of the map equals what is known at its place, or touches nothing known. */
  agreesWith(map: ChunkMap): boolean {
    for (let i = 0; i < map.count; i++) {
      const offset = map.uncompressedOffset[i] ?? 0;
      const length = map.uncompressedLength[i] ?? 0;
      const known = this.#known.find(offset);
      if (known < 0) {
        if (this.#touches(offset, offset + length)) return false;
      } else if (!this.#known.isSame(known, length, chunkDigest(map, i))) return false;
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
    this.#known = this.#known.with(map);
    for (let i = 0; i < map.count; i++) {
      const offset = map.uncompressedOffset[i] ?? 0;
      setReady(this.#blocks, offset, offset + (map.uncompressedLength[i] ?? 0));
    }
  }

  get capacity(): number {
    return (this.#blocks.length - 1) * 32 * BLOCK;
  }

  /** Call before using the descriptor in this thread; see `DirectReads`. */
  buffered(): void {
    this.#direct.suspend();
  }

  /** Bytes on disk. */
  get bytes(): number {
    return fstatSync(this.fd).blocks * 512;
  }

  stateOf(offset: number): ChunkState {
    return this.#known.state(this.#known.find(offset));
  }

  /** Positions of those of the chunks that are known. */
  #find(offsets: readonly number[]): number[] {
    return offsets.map((offset) => this.#known.find(offset)).filter((chunk) => chunk >= 0);
  }

  /**
   * The chunks' data is in the file, and as it must be: claim it, then show it to all users.
   *
   * @param state "checked" when it was read back
   */
  mark(offsets: readonly number[], state: "stored" | "checked"): void {
    const news = this.#find(offsets).filter((chunk) => this.#known.state(chunk) !== state);
    this.#change(news, state);
    for (const chunk of news)
      for (const user of this.users)
        setReady(user.view.ready, this.#known.offset(chunk), this.#known.end(chunk));
  }

  /** In memory as on disk, or neither. */
  #change(chunks: readonly number[], state: ChunkState): void {
    const claims = chunks.map((chunk): Claim => ({ ...this.#known.at(chunk), state }));
    this.#table.write(claims);
    for (const [i, claim] of claims.entries()) this.#known.set(chunks[i] ?? 0, claim);
  }

  touch(offset: number, length: number): void {
    touch(this.used, this.clock, offset, offset + length);
  }

  /** Nothing of the range leaves the file until disposal. */
  hold(offset: number, length: number): Disposable {
    return this.#holds.add(offset, length);
  }

  /** Nothing at all leaves the file until disposal: the kernel reads it by itself. */
  pin(): Disposable {
    this.#pins++;
    return { [Symbol.dispose]: () => void this.#pins-- };
  }

  /** Also when a process that is dead, or unmounted lazily, has left a mount that stands on the file. */
  get pinned(): boolean {
    return this.#pins > 0 || isOpenElsewhere(this.fd) === true;
  }

  /** Whether `pinned` also tells of mounts that others left, and the file stays when this process ends. */
  get isGuarded(): boolean {
    return !this.#temporary && isOpenElsewhere(this.fd) !== undefined;
  }

  /** Groups that hold chunks, and when each was last used. */
  *groups(): Generator<{ readonly group: number; readonly used: number }> {
    let last = -1;
    for (let chunk = 0; chunk < this.#known.count; chunk++) {
      const group = Math.floor(this.#known.offset(chunk) / GROUP);
      if (group === last || this.#known.state(chunk) === "absent") continue;
      last = group;
      yield { group, used: this.lastUse(group) };
    }
  }

  /** A chunk's use is noted in every group that it touches. */
  lastUse(group: number): number {
    let latest = 0;
    for (const each of this.#span(group)) latest = Math.max(latest, Atomics.load(this.used, each));
    return latest;
  }

  /** Positions of the chunks that start in it. */
  #startingIn(group: number): number[] {
    return this.#known.between(group * GROUP, (group + 1) * GROUP);
  }

  /** All groups that chunks of this one lie in. */
  #span(group: number): number[] {
    const last = this.#startingIn(group).at(-1);
    const end = last === undefined ? group : lastGroup(this.#known.offset(last), this.#known.end(last));
    return Array.from({ length: end - group + 1 }, (_, i) => group + i);
  }

  /** Gives the space of a group's chunks back, unless somebody needs them. @returns whether it did */
  evict(group: number): boolean {
    if (this.#span(group).some((each) => this.#holds.has(each)) || this.pinned) return false;
    const gone = this.#startingIn(group).filter((chunk) => this.#known.state(chunk) !== "absent");
    try {
      this.#drop(gone);
    } catch {
      // What cannot be written down as gone stays.
      return false;
    }
    return this.#punch(gone);
  }

  /**
   * The chunks' data does not count any more. It stays where it is; `docs/decisions/eviction.md` explains the order.
   */
  drop(offsets: readonly number[]): void {
    this.#drop(this.#find(offsets));
  }

  #drop(gone: readonly number[]): void {
    this.#change(gone, "absent");
    for (const user of this.users)
      for (const chunk of gone) {
        const offset = this.#known.offset(chunk);
        if (describes(user.map, offset)) clearReady(user.view.ready, offset, this.#known.end(chunk));
      }
    Atomics.add(this.drops, 0, 1);
  }

  /** What a failed write left of chunks that nobody claims. */
  punchUnclaimed(offsets: readonly number[]): void {
    // A mount that stands on the file may still read there what was found damaged.
    if (this.pinned) return;
    this.#punch(this.#find(offsets).filter((chunk) => this.#known.state(chunk) === "absent"));
  }

  /** Neighbours with one call each. */
  #punch(chunks: readonly number[]): boolean {
    let done = true;
    for (let i = 0; i < chunks.length; ) {
      const start = this.#known.offset(chunks[i] ?? 0);
      let end = start;
      for (; i < chunks.length && this.#known.offset(chunks[i] ?? 0) === end; i++)
        end = alignUp(this.#known.end(chunks[i] ?? 0), BLOCK);
      done = punchHole(this.fd, start, end - start) === 0 && done;
    }
    return done;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Says that everything claimed is there, while the file stays open. */
  seal(): void {
    this.#table.seal();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#direct[Symbol.dispose]();
    this.#table[Symbol.dispose]();
    closeSync(this.fd);
    if (this.#temporary) rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** In the gaps between an image's own chunks its blocks stay ready: nothing refers to them. */
function describes(map: ChunkMap, offset: number): boolean {
  const chunk = chunkAt(map, offset);
  return chunk >= 0 && map.uncompressedOffset[chunk] === offset;
}
