/**
 * Threads that serve FUSE file systems, one after another. A thread that ends leaves some 30 KB of its engine in the
 * process for ever, so the last ones wait for the next file system instead.
 *
 * @module
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { ERRNO } from "../../ffi/libc.ts";
import { smallHeap, workerUrl } from "../base/worker.ts";
import type { FromWorker, WorkerSetup } from "./fuse-messages.ts";

/** Threads that wait; each holds some megabytes. */
const MOST_IDLE = 2;

/** A thread while it serves one file system. */
export interface FuseThread {
  /** What it learns while it serves. */
  readonly inbox: MessagePort;
  /** Resolves with an errno when it serves no more, and never asks again. */
  readonly ended: Promise<number>;
  /** Once it has ended. */
  release(): Promise<void>;
}

export interface FuseThreadOptions {
  readonly setup: WorkerSetup;
  /** Reads that wait for data, and those that no longer do. */
  readonly onMessage: (message: Exclude<FromWorker, { readonly kind: "ended" }>) => void;
  readonly onError: (error: unknown) => void;
}

export class FuseThreads implements AsyncDisposable {
  #idle: Worker[] = [];
  #disposed = false;

  start({ setup, onMessage, onError }: FuseThreadOptions): FuseThread {
    const worker = this.#idle.pop() ?? new Worker(workerUrl("lib/mount/fuse-worker.ts"), smallHeap);
    const { port1: inbox, port2 } = new MessageChannel();
    const ended = Promise.withResolvers<number>();
    let isWell = true;
    const hear = (message: FromWorker): void => {
      if (message.kind === "ended") ended.resolve(message.errno);
      else onMessage(message);
    };
    const fail = (error: unknown): void => {
      isWell = false;
      onError(error);
      ended.resolve(ERRNO.EIO);
    };
    worker.on("message", hear);
    worker.on("error", fail);
    worker.postMessage({ ...setup, inbox: port2 }, [port2]);
    const release = async (): Promise<void> => {
      worker.off("message", hear);
      worker.off("error", fail);
      inbox.close();
      if (isWell && !this.#disposed && this.#idle.length < MOST_IDLE) this.#idle.push(worker);
      else await worker.terminate();
    };
    return { inbox, ended: ended.promise, release };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    await Promise.all(this.#idle.splice(0).map((worker) => worker.terminate()));
  }
}
