/**
 * One packing thread, seen from its owner.
 *
 * @module
 */
import { Worker } from "node:worker_threads";
import { NydusError, toNydusError } from "../base/error.ts";
import { workerUrl } from "../base/worker.ts";
import type { PackedLayer, PackOptions } from "./pack-layer.ts";
import { type FromPacker, MAX_IN_FLIGHT, type ToPacker } from "./pack-messages.ts";

export interface PackRequest extends PackOptions {
  /** Opens the compressed layer; called when its turn has come. */
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
  /** Compressed bytes taken in. */
  readonly onProgress?: (bytes: number) => void;
}

interface Job {
  readonly gate: Gate;
  readonly onProgress: ((bytes: number) => void) | undefined;
  readonly resolve: (layer: PackedLayer) => void;
  readonly reject: (error: unknown) => void;
}

export class PackingThread implements AsyncDisposable {
  readonly #worker = new Worker(workerUrl("lib/convert/pack-layer-worker.ts"));
  readonly #jobs = new Map<number, Job>();
  #last = 0;
  /** Why the thread is gone. */
  #dead: unknown;

  constructor() {
    this.#worker.on("message", (message: FromPacker) => this.#receive(message));
    this.#worker.on("error", (error) => this.#die(error));
    this.#worker.on("exit", () => this.#die(new NydusError("internal", "Cannot pack: the thread has ended")));
  }

  get jobs(): number {
    return this.#jobs.size;
  }

  /** Ends only when the thread has let go of the layer's file. */
  async pack(request: PackRequest): Promise<PackedLayer> {
    const { open, onProgress, signal, ...options } = request;
    signal?.throwIfAborted();
    if (this.#dead !== undefined) throw this.#dead;
    const job = ++this.#last;
    const gate = new Gate(MAX_IN_FLIGHT);
    const ended = new Promise<PackedLayer>((resolve, reject) => {
      this.#jobs.set(job, { gate, onProgress, resolve, reject });
    });
    // It may fail before anybody waits for it.
    ended.catch(() => {});
    const abort = (): void => this.#break(job, signal?.reason);
    signal?.addEventListener("abort", abort);
    this.#send({ job, kind: "start", options });
    try {
      void this.#feed(job, gate, open);
      return await ended;
    } catch (error) {
      throw signal?.aborted === true ? signal.reason : error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Sends the layer on as fast as the thread takes it. A source that breaks ends the job by way of the thread. */
  async #feed(job: number, gate: Gate, open: PackRequest["open"]): Promise<void> {
    try {
      const reader = (await open()).getReader();
      // A layer that nobody wants any more is not read to its end, even if the next piece never comes.
      gate.onClose = () => void reader.cancel().catch(() => {});
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        this.#send({ job, kind: "piece", bytes: value });
        if (!(await gate.room(value.byteLength))) return;
      }
      this.#send({ job, kind: "end" });
    } catch (error) {
      this.#break(job, error);
    }
  }

  #break(job: number, error: unknown): void {
    const { code, message } = toNydusError(error, "read the layer");
    this.#send({ job, kind: "broken", error: { code, message } });
    this.#jobs.get(job)?.gate.close();
  }

  #send(message: ToPacker): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromPacker): void {
    const job = this.#jobs.get(message.job);
    if (job === undefined) return;
    if (message.kind === "taken") {
      job.gate.release(message.bytes);
      job.onProgress?.(message.bytes);
      return;
    }
    this.#jobs.delete(message.job);
    job.gate.close();
    if (message.kind === "packed") job.resolve(message.layer);
    else job.reject(new NydusError(message.error.code, message.error.message));
  }

  #die(error: unknown): void {
    this.#dead ??= error;
    for (const { gate, reject } of this.#jobs.values()) {
      reject(this.#dead);
      gate.close();
    }
    this.#jobs.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Counts bytes under way. */
class Gate {
  #free: number;
  #closed = false;
  #wake: (() => void) | undefined;
  #onClose: (() => void) | undefined;

  constructor(bytes: number) {
    this.#free = bytes;
  }

  /** Called once; at once if the gate is closed already. */
  set onClose(action: () => void) {
    this.#onClose = action;
    if (this.#closed) action();
  }

  /** Waits until there is room for more; false when no more is wanted. */
  async room(taken: number): Promise<boolean> {
    this.#free -= taken;
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
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose?.();
    this.#wake?.();
  }
}
