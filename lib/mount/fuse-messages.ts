/**
 * What the serving threads and the main thread tell each other. Hits never become messages.
 *
 * @module
 */
import type { CacheView } from "../blob/cache-view.ts";
import type { ReadyMap } from "../blob/ready-map.ts";

/** A blob as threads serve it: everything a hit needs. */
export interface Device {
  /** Position in the session's list; never used twice. */
  readonly index: number;
  /** File name in the device directory. */
  readonly name: string;
  /** The cache file, open in this process. */
  readonly fd: number;
  /** Bytes, multiple of 4096. */
  readonly size: number;
  readonly view: CacheView;
  /** What was read of it, hit or miss: a bit for each 4 KiB block. */
  readonly touched: ReadyMap;
  /** Reads answered from the cache, reads passed on. */
  readonly counters: Uint32Array<SharedArrayBuffer>;
}

export const COUNTER = { HITS: 0, MISSES: 1 } as const;

/** Main thread to worker. A worker looks at these only when it meets something unknown. */
export type ToWorker =
  | { readonly kind: "add"; readonly device: Device }
  | { readonly kind: "remove"; readonly index: number };

/** A read that the cache cannot answer. The pieces, in order, make up the reply. */
export interface MissedRead {
  readonly kind: "read";
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  /** Triples: device index, uncompressed offset, length. */
  readonly pieces: readonly number[];
}

export type FromWorker =
  | MissedRead
  | { readonly kind: "interrupt"; readonly uniqueLow: number; readonly uniqueHigh: number }
  /** A request got an error that it should not have had. */
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "ended"; readonly errno: number };

export interface WorkerSetup {
  readonly fd: number;
  readonly devices: readonly Device[];
  /** A whole RAFS file system instead of the flat directory of devices. */
  readonly bootstrap?: { readonly path: string };
}
