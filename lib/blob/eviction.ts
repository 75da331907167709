/**
 * Keeps a cache below its quota: before something is stored, what was used longest ago leaves. First go whole files
 * that no process uses, the one closed first first; then groups of chunks of the files that this process uses.
 *
 * @module
 */
import type { CacheDirectory } from "./cache-directory.ts";
import type { CacheFile } from "./cache-file.ts";

/** Freed at a time, so that not every store has to: a 16th of the quota, but at most this many bytes. */
const MOST_HEADROOM = 16 << 20;
/** Groups put in order at a time: 1 GiB of them. */
const QUEUE = 4096;

interface Victim {
  readonly file: CacheFile;
  readonly group: number;
  readonly used: number;
}

export interface EvictionOptions {
  readonly directory: CacheDirectory;
  /** The files that this process has open, by name. */
  readonly open: ReadonlyMap<string, CacheFile>;
  /** Bytes of all data files on disk. */
  readonly limit: number;
}

export class Eviction {
  readonly #options: EvictionOptions;
  readonly #headroom: number;
  /** Bytes on disk when last measured, and what was stored since. Other processes' stores show at the next look. */
  #measured: number;
  #stored = 0;
  /** Oldest last. */
  #victims: Victim[] = [];
  evictedBytes = 0;

  constructor(options: EvictionOptions) {
    this.#options = options;
    this.#headroom = Math.min(Math.floor(options.limit / 16), MOST_HEADROOM);
    this.#measured = options.directory.totalBytes();
  }

  /** Call before storing so many bytes. @returns false when what is in use leaves no room */
  makeRoom(bytes: number): boolean {
    const { limit } = this.#options;
    if (this.#measured + this.#stored + bytes > limit || this.#stored > this.#headroom) this.#look();
    if (this.#measured + bytes > limit) this.#free(this.#measured + bytes - limit);
    this.#stored += bytes;
    return this.#measured + bytes <= limit;
  }

  #look(): void {
    this.#measured = this.#options.directory.totalBytes();
    this.#stored = 0;
  }

  #free(needed: number): void {
    const before = this.#measured;
    const target = Math.max(before - needed - this.#headroom, 0);
    this.#removeUnused(target);
    this.#evictGroups(target);
    this.evictedBytes += Math.max(before - this.#measured, 0);
  }

  #removeUnused(target: number): void {
    const { directory, open } = this.#options;
    if (this.#measured <= target) return;
    const unused = directory
      .names()
      .filter((name) => !open.has(name))
      .map((name) => ({ name, lastUse: directory.lastUse(name), bytes: directory.bytes(name) }))
      .sort((a, b) => a.lastUse - b.lastUse);
    for (const { name, bytes } of unused) {
      if (this.#measured <= target) return;
      if (directory.remove(name)) this.#measured -= bytes;
    }
  }

  #evictGroups(target: number): void {
    let fresh = false;
    while (this.#measured > target) {
      const victim = this.#victims.pop();
      if (victim !== undefined) this.#evict(victim);
      else if (fresh) return;
      else {
        this.#victims = oldestGroups(this.#options.open.values());
        fresh = true;
      }
    }
  }

  /** What was used since the queue was made has its turn when it is made again. */
  #evict({ file, group, used }: Victim): void {
    if (file.closed || file.lastUse(group) !== used) return;
    const before = file.bytes;
    if (file.evict(group)) this.#measured -= before - file.bytes;
  }
}

/** The oldest ones of all groups, oldest last. */
function oldestGroups(files: Iterable<CacheFile>): Victim[] {
  const candidates: Victim[] = [];
  for (const file of files) {
    if (file.pinned) continue;
    for (const { group, used } of file.groups()) candidates.push({ file, group, used });
  }
  return candidates.sort((a, b) => b.used - a.used).slice(-QUEUE);
}
