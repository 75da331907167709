/**
 * Where a worker thread's code is, from source and inside the compiled binary. `scripts/build` embeds every
 * `lib/*\/*-worker.ts` as an entry point, under its path in the repository.
 *
 * @module
 */
import type { WorkerOptions } from "node:worker_threads";

/** Collect garbage early, for threads that make little of it: Bun's own option. */
export const smallHeap = { smol: true } as WorkerOptions;

/** @param path of the worker from the repository's root: "lib/mount/fuse-worker.ts" */
export function workerUrl(path: `lib/${string}-worker.ts`): string | URL {
  const compiled = import.meta.url.startsWith("file:///$bunfs/");
  return compiled ? `./${path}` : new URL(`../../${path}`, import.meta.url);
}
