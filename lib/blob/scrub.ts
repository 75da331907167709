/**
 * Reads cached chunks back and compares them with their digests: what a disk lost is found before somebody reads it,
 * or before the kernel reads the file by itself.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import { chunkHasher } from "../base/digest.ts";
import type { CachedBlob } from "./cached-blob.ts";

/** What chunks a scrub looks at: all, or those that were not read back since they were stored. */
export type ScrubScope = "all" | "unchecked";

export interface ScrubCounts {
  checkedChunks: number;
  damagedChunks: number;
}

export interface ScrubOptions {
  readonly scope: ScrubScope;
  /** How much longer to rest than to work: 0 works without a rest. */
  readonly rest: number;
  readonly signal: AbortSignal;
  /** Told of chunks that do not count any more. */
  readonly damaged: (chunk: number) => void;
}

/** Milliseconds of work before the event loop has its turn. */
const WORK_MS = 3;

/** Checks a blob's cached chunks, one after the other, and adds to the counts. Stops when aborted. */
export async function scrubBlob(
  blob: CachedBlob,
  counts: ScrubCounts,
  { scope, rest, signal, damaged }: ScrubOptions,
): Promise<void> {
  const hasher = await chunkHasher(blob.map.digester);
  let since = performance.now();
  for (let chunk = 0; chunk < blob.map.count && !signal.aborted; chunk++) {
    const found = blob.check(chunk, hasher, scope);
    if (found === "skipped") continue;
    counts.checkedChunks++;
    if (found === "damaged") {
      counts.damagedChunks++;
      damaged(chunk);
    }
    const worked = performance.now() - since;
    if (worked < WORK_MS) continue;
    await sleep(worked * rest);
    since = performance.now();
  }
}
