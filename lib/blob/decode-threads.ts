/**
 * Expanding and checking chunks on other cores than the one that fetches and replies. Small batches are not worth the
 * trip, and what shares a stored unit, or is encrypted, stays with its reader.
 *
 * @module
 */
import { Worker } from "node:worker_threads";
import { smallHeap, workerUrl } from "../base/worker.ts";
import { type ChunkMap, chunkDigest } from "../rafs/chunk-map.ts";
import { type DecodedJob, type DecodeJob, total } from "./decode-messages.ts";
import { Slabs, USUAL } from "./slabs.ts";

/** A chunk as it lies in the blob. */
export interface StoredChunk {
  readonly chunk: number;
  readonly stored: Uint8Array;
}

/** What became of a batch. Disposal gives its memory back: what is to stay must be copied before. */
export interface Decoded extends Disposable {
  /** In the order of the batch: its data, or undefined for a chunk that is not what its digest says. */
  readonly chunks: readonly (Uint8Array | undefined)[];
}

/** Stored bytes of a batch for which a message to a thread costs less than it saves. */
const LEAST = 64 << 10;
/** Bytes of a batch, stored and expanded, up to which it needs no memory of its own. */
export const MOST_AT_ONCE = USUAL;
/** Batches of a thread at once: one that it decodes, one that waits for it, and one that is being stored. */
const BATCHES = 3;
/** Milliseconds without work after which garbage is collected. */
const REST = 3000;
/** And those after which threads end too: each holds some megabytes, but leaves a little for ever when it ends. */
const IDLE = 30_000;

interface Thread {
  readonly worker: Worker;
  readonly jobs: Map<number, (done: DecodedJob | undefined) => void>;
}

export class DecodeThreads implements AsyncDisposable {
  readonly #count: number;
  readonly #onIdle: () => void;
  readonly #threads: Thread[] = [];
  readonly #slabs: Slabs;
  #last = 0;
  #idle: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param count of threads at most; each is started when it is first needed
   * @param onIdle called when there was nothing to do for a while
   */
  constructor(count: number, onIdle: () => void = () => {}) {
    this.#count = count;
    this.#onIdle = onIdle;
    this.#slabs = new Slabs(BATCHES * count);
  }

  /** @returns undefined where the caller should decode by itself. Never rejects */
  async decode(map: ChunkMap, batch: readonly StoredChunk[]): Promise<Decoded | undefined> {
    const storedLengths = Uint32Array.from(batch, ({ stored }) => stored.byteLength);
    const stored = total(storedLengths);
    if (stored < LEAST || map.units !== undefined || map.cipher !== undefined) return undefined;
    const lengths = Uint32Array.from(batch, ({ chunk }) => map.uncompressedLength[chunk] ?? 0);
    const slab = await this.#slabs.take(stored + total(lengths));
    const request = jobOf(++this.#last, map, batch, { slab: slab.buffer, storedLengths, lengths });
    const thread = this.#leastBusy();
    const done = await new Promise<DecodedJob | undefined>((resolve) => {
      thread.jobs.set(request.job, resolve);
      thread.worker.postMessage(request);
    });
    let at = stored;
    const chunks = Array.from(lengths, (length, i) => {
      const start = at;
      at += length;
      return done?.good[i] === 1 ? new Uint8Array(slab.buffer, start, length) : undefined;
    });
    return { chunks, [Symbol.dispose]: () => slab[Symbol.dispose]() };
  }

  /** Gives back what is not needed when nothing more comes, and in the end the threads. */
  restSoon(): void {
    this.#when(REST, () => {
      this.#slabs.shrink();
      this.#onIdle();
      this.#when(IDLE, () => void this[Symbol.asyncDispose]().then(this.#onIdle));
    });
  }

  #when(idle: number, rest: () => void): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      if (this.#threads.some(({ jobs }) => jobs.size > 0)) this.restSoon();
      else rest();
    }, idle);
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
    const worker = new Worker(workerUrl("lib/blob/decode-worker.ts"), smallHeap);
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

function jobOf(
  job: number,
  map: ChunkMap,
  batch: readonly StoredChunk[],
  { slab, storedLengths, lengths }: Pick<DecodeJob, "slab" | "storedLengths" | "lengths">,
): DecodeJob {
  const digests = new Uint8Array(32 * batch.length);
  for (const [i, { chunk }] of batch.entries()) digests.set(chunkDigest(map, chunk), 32 * i);
  const into = new Uint8Array(slab);
  let at = 0;
  for (const { stored } of batch) {
    into.set(stored, at);
    at += stored.byteLength;
  }
  return {
    job,
    compressor: map.compressor,
    digester: map.digester,
    slab,
    storedLengths,
    lengths,
    compressed: Uint8Array.from(batch, ({ chunk }) => map.compressed[chunk] ?? 0),
    digests,
  };
}
