/** A thread that reads ranges of a cache file as serving threads do, and counts what it saw. */
import { readSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { type CacheView, readReady } from "./cache-view.ts";

export interface HitSetup {
  readonly fd: number;
  readonly view: CacheView;
  readonly content: Uint8Array;
  readonly length: number;
  /** Set to 1 to end the thread. */
  readonly stop: Int32Array<SharedArrayBuffer>;
}

export interface HitCounts {
  readonly hits: number;
  readonly misses: number;
  /** Hits with wrong bytes. */
  readonly wrong: number;
}

const { fd, view, content, length, stop } = workerData as HitSetup;
const into = Buffer.alloc(length);

/** Waits between the look at the map and the read, as a thread does that is interrupted there. */
function slowRead(at: number): boolean {
  for (const end = performance.now() + 0.2; performance.now() < end; );
  return readSync(fd, into, 0, length, at) === length;
}

const counts = { hits: 0, misses: 0, wrong: 0 };
for (let at = 0; Atomics.load(stop, 0) === 0; at = (at + length) % (content.byteLength - length)) {
  if (!readReady(view, at, at + length, () => slowRead(at))) {
    counts.misses++;
    continue;
  }
  counts.hits++;
  if (!into.equals(content.subarray(at, at + length))) counts.wrong++;
}
parentPort?.postMessage(counts satisfies HitCounts);
