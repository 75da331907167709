/**
 * What serving threads see of a cache file, on shared memory: which blocks are there, whether something was dropped,
 * and what was used when. A thread decides hit or miss, reads the file, and asks nobody.
 *
 * The danger is a chunk that is dropped (its space given back) while a thread reads it: the thread would see zeros.
 * `docs/decisions/eviction.md` says why this cannot happen:
 *
 *     dropping (main thread)            a hit (any thread)
 *     1. clear the bits                 a. ticket = drops
 *     2. drops += 1                     b. all bits set? else a miss
 *     3. punch the hole                 c. read the file
 *                                       d. drops still the ticket? else start over
 *
 * @module
 */
import { isReady, type ReadyMap } from "./ready-map.ts";

/** Bytes of a group: what is evicted together, and remembered together when it is used. Power of two. */
export const GROUP = 256 << 10;

export interface CacheView {
  readonly ready: ReadyMap;
  /** One counter, of the cache file: how often something was dropped from it. */
  readonly drops: Int32Array<SharedArrayBuffer>;
  /** Of the cache file: for each group, the value of the clock when it was last used. */
  readonly used: Uint32Array<SharedArrayBuffer>;
  /** One counter, of the whole cache: moves on with each store, since only stores evict. */
  readonly clock: Uint32Array<SharedArrayBuffer>;
}

/** The last group that [start, end) touches; the first one is `start / GROUP`. */
export function lastGroup(start: number, end: number): number {
  return Math.floor(Math.max(start, end - 1) / GROUP);
}

/** Remembers that the groups of [start, end) were used now. Writes only where that is news. */
export function touch(used: CacheView["used"], clock: CacheView["clock"], start: number, end: number): void {
  const now = Atomics.load(clock, 0);
  for (let group = Math.floor(start / GROUP); group <= lastGroup(start, end); group++)
    if (Atomics.load(used, group) !== now) Atomics.store(used, group, now);
}

/** Drops are rare; who loses this often in a row lets the main thread answer. */
const ATTEMPTS = 3;

/**
 * Reads [start, end) if all of it is in the cache.
 *
 * @param read reads the range from the cache file; called again when a drop came between
 * @returns false on a miss: then what `read` gave must not be used
 */
export function readReady(view: CacheView, start: number, end: number, read: () => boolean): boolean {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const ticket = Atomics.load(view.drops, 0);
    if (!isReady(view.ready, start, end)) return false;
    touch(view.used, view.clock, start, end);
    if (!read()) return false;
    if (Atomics.load(view.drops, 0) === ticket) return true;
  }
  return false;
}
