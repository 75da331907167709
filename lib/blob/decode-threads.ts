/**
 * Expanding and checking chunks on other cores than the one that fetches and replies. Small batches are not worth the
 * trip, and what shares a stored unit, or is encrypted, stays with its reader.
 *
 * @module
 */
import { Worker } from "node:worker_threads";
import { workerUrl } from "../base/worker.ts";
import { type ChunkMap, chunkDigest } from "../rafs/chunk-map.ts";
import type { DecodedJob, DecodeJob } from "./decode-messages.ts";

/** A chunk as it lies in the blob. */
export interface StoredChunk {
  readonly chunk: number;
  readonly stored: Uint8Array;
}

/** In the order of the batch: its data, or undefined for a chunk that is not what its digest says. */
export type Decoded = readonly (Uint8Array | undefined)[];

/** Stored bytes of a batch for which a message to a thread costs less than it saves. */
const LEAST = 64 << 10;
/** Milliseconds without work after which threads end: each holds some ten megabytes. */
const IDLE = 10_000;

interface Thread {
  readonly worker: Worker;
  readonly jobs: Map<number, (done: DecodedJob | undefined) => void>;
}

export class DecodeThreads implements AsyncDisposable {
  readonly #count: number;
  readonly #onIdle: () => void;
  readonly #threads: Thread[] = [];
  #last = 0;
  #idle: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param count of threads at most; each is started when it is first needed
   * @param onIdle called when there was nothing to do for a while
   */
  constructor(count: number, onIdle: () => void = () => {}) {
    this.#count = count;
    this.#onIdle = onIdle;
  }

  /** @returns undefined where the caller should decode by itself. Never rejects */
  async decode(map: ChunkMap, batch: readonly StoredChunk[]): Promise<Decoded | undefined> {
    if (!isWorth(map, batch)) return undefined;
    const thread = this.#leastBusy();
    const request = jobOf(++this.#last, map, batch);
    const done = await new Promise<DecodedJob | undefined>((resolve) => {
      thread.jobs.set(request.job, resolve);
      thread.worker.postMessage(request, [request.stored.buffer]);
    });
    if (done === undefined) return undefined;
    let at = 0;
    return batch.map((_, i) => {
      const start = at;
      at += request.lengths[i] ?? 0;
      return done.good[i] === 1 ? done.data.subarray(start, at) : undefined;
    });
  }

  /** Ends the threads when nothing more comes. */
  restSoon(): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      if (this.#threads.some(({ jobs }) => jobs.size > 0)) return this.restSoon();
      void this[Symbol.asyncDispose]();
      this.#onIdle();
    }, IDLE);
    this.#idle.unref();
  }

  #leastBusy(): Thread {
    const [idlest] = this.#threads.toSorted((a, b) => a.jobs.size - b.jobs.size);
    if (idlest !== undefined && (idlest.jobs.size === 0 || this.#threads.length === this.#count))
      return idlest;
    const thread = this.#start();
    this.#threads.push(thread);
    return thread;
  }

  #start(): Thread {
    const worker = new Worker(workerUrl("lib/blob/decode-worker.ts"));
    worker.unref();
    const thread: Thread = { worker, jobs: new Map() };
    worker.on("message", (done: DecodedJob) => {
      thread.jobs.get(done.job)?.(done);
      thread.jobs.delete(done.job);
      this.restSoon();
    });
    const lost = (): void => {
      const at = this.#threads.indexOf(thread);
      if (at >= 0) this.#threads.splice(at, 1);
      for (const resolve of thread.jobs.values()) resolve(undefined);
      thread.jobs.clear();
    };
    worker.on("error", lost);
    worker.on("exit", lost);
    return thread;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idle);
    await Promise.all(this.#threads.splice(0).map(({ worker }) => worker.terminate()));
  }
}

function isWorth(map: ChunkMap, batch: readonly StoredChunk[]): boolean {
  if (map.units !== undefined || map.cipher !== undefined) return false;
  return batch.reduce((sum, { stored }) => sum + stored.byteLength, 0) >= LEAST;
}

function jobOf(job: number, map: ChunkMap, batch: readonly StoredChunk[]): DecodeJob {
  const digests = new Uint8Array(32 * batch.length);
  for (const [i, { chunk }] of batch.entries()) digests.set(chunkDigest(map, chunk), 32 * i);
  const storedLengths = Uint32Array.from(batch, ({ stored }) => stored.byteLength);
  // Of its own, to be handed over: what arrived may share its memory with the rest of the answer.
  const stored = new Uint8Array(storedLengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const { stored: bytes } of batch) {
    stored.set(bytes, at);
    at += bytes.byteLength;
  }
  return {
    job,
    compressor: map.compressor,
    digester: map.digester,
    stored,
    storedLengths,
    lengths: Uint32Array.from(batch, ({ chunk }) => map.uncompressedLength[chunk] ?? 0),
    compressed: Uint8Array.from(batch, ({ chunk }) => map.compressed[chunk] ?? 0),
    digests,
  };
}
