/**
 * A packing thread: packs the layers that its owner sends, several at a time.
 *
 * @module
 */
import { parentPort } from "node:worker_threads";
import { NydusError, toNydusError } from "../base/error.ts";
import { type PackOptions, packLayer } from "./pack-layer.ts";
import type { FromPacker, ToPacker } from "./pack-messages.ts";

const send = (message: FromPacker): void => parentPort?.postMessage(message);

/** Pieces as they arrive; saying "taken" makes room for more. */
class Inbox implements AsyncIterable<Uint8Array> {
  readonly #pieces: Uint8Array[] = [];
  #ended = false;
  #failure: NydusError | undefined;
  #wake: (() => void) | undefined;
  readonly #job: number;

  constructor(job: number) {
    this.#job = job;
  }

  receive(message: ToPacker): void {
    if (message.kind === "piece") this.#pieces.push(message.bytes);
    else if (message.kind === "end") this.#ended = true;
    else if (message.kind === "broken")
      this.#failure = new NydusError(message.error.code, message.error.message);
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        send({ job: this.#job, kind: "taken", bytes: piece.byteLength });
        yield piece;
      } else if (this.#ended) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}

const inboxes = new Map<number, Inbox>();

async function pack(job: number, options: PackOptions): Promise<void> {
  const inbox = new Inbox(job);
  inboxes.set(job, inbox);
  try {
    send({ job, kind: "packed", layer: await packLayer(inbox, options) });
  } catch (error) {
    const { code, message } = toNydusError(error, `convert ${options.what}`);
    send({ job, kind: "failed", error: { code, message } });
  } finally {
    inboxes.delete(job);
  }
}

parentPort?.on("message", (message: ToPacker) => {
  if (message.kind === "start") void pack(message.job, message.options);
  else inboxes.get(message.job)?.receive(message);
});
