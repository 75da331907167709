/**
 * Packs layers side by side, a thread each. Layers beyond the number of threads wait.
 *
 * @module
 */
import { Worker } from "node:worker_threads";
import { NydusError as Failure, type NydusError, toNydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import { workerUrl } from "../base/worker.ts";
import type { PackedLayer, PackOptions } from "./pack-layer.ts";
import { type FromPacker, MAX_IN_FLIGHT, type ToPacker } from "./pack-messages.ts";

export interface PackRequest extends PackOptions {
  /** Opens the compressed layer; called when a thread is free. */
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
  /** Compressed bytes taken in. */
  readonly onProgress?: (bytes: number) => void;
}

export class PackingThreads implements AsyncDisposable {
  readonly #limiter: Limiter;
  readonly #idle: Worker[] = [];
  readonly #all = new Set<Worker>();

  constructor(threads: number) {
    this.#limiter = new Limiter(Math.max(1, threads));
  }

  /** A request that fails or is cancelled costs its thread; the next one gets another. */
  pack(request: PackRequest): Promise<PackedLayer> {
    return this.#limiter.run(async () => {
      request.signal?.throwIfAborted();
      const worker = this.#idle.pop() ?? this.#start();
      try {
        const layer = await packOn(worker, request);
        this.#idle.push(worker);
        return layer;
      } catch (error) {
        this.#all.delete(worker);
        await worker.terminate();
        throw toNydusError(error, `convert ${request.what}`);
      }
    });
  }

  #start(): Worker {
    const worker = new Worker(workerUrl("lib/convert/pack-layer-worker.ts"));
    this.#all.add(worker);
    return worker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#all].map((worker) => worker.terminate()));
    this.#all.clear();
  }
}

async function packOn(worker: Worker, request: PackRequest): Promise<PackedLayer> {
  const { open, onProgress, signal, ...options } = request;
  const send = (message: ToPacker): void => worker.postMessage(message);
  const gate = new Gate(MAX_IN_FLIGHT);
  const { promise, resolve, reject } = Promise.withResolvers<PackedLayer>();
  const listen = (message: FromPacker): void => {
    if (message.kind === "taken") {
      gate.release(message.bytes);
      onProgress?.(message.bytes);
    } else if (message.kind === "packed") resolve(message.layer);
    else reject(new Failure(message.error.code, message.error.message));
  };
  // It may fail while the source is being opened, before anybody waits for it.
  promise.catch(() => {});
  const abort = (): void => reject(signal?.reason);
  worker.on("message", listen).on("error", reject);
  signal?.addEventListener("abort", abort);
  try {
    send({ kind: "start", options });
    const reader = (await open()).getReader();
    const feeding = feed(reader, gate, send);
    return await promise.finally(async () => {
      // A layer that failed in the thread is not read to its end.
      gate.close();
      await reader.cancel().catch(() => {});
      await feeding;
    });
  } finally {
    signal?.removeEventListener("abort", abort);
    worker.off("message", listen).off("error", reject);
  }
}

/** Sends the layer on as fast as the thread takes it. A source that breaks is reported by way of the thread. */
async function feed(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  gate: Gate,
  send: (message: ToPacker) => void,
): Promise<void> {
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      send({ kind: "piece", bytes: value });
      if (!(await gate.take(value.byteLength))) return;
    }
    send({ kind: "end" });
  } catch (error) {
    const { code, message }: NydusError = toNydusError(error, "read the layer");
    send({ kind: "broken", error: { code, message } });
  }
}

/** Counts bytes under way. */
class Gate {
  #free: number;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(bytes: number) {
    this.#free = bytes;
  }

  /** Waits until there is room for more; false when no more is wanted. */
  async take(bytes: number): Promise<boolean> {
    this.#free -= bytes;
    while (this.#free <= 0 && !this.#closed)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return !this.#closed;
  }

  release(bytes: number): void {
    this.#free += bytes;
    this.#wake?.();
  }

  close(): void {
    this.#closed = true;
    this.#wake?.();
  }
}
