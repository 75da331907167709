/**
 * A packing thread: packs one layer after another, as its owner asks.
 *
 * @module
 */
import { parentPort } from "node:worker_threads";
import { NydusError, toNydusError } from "../base/error.ts";
import { packLayer } from "./pack-layer.ts";
import type { FromPacker, ToPacker } from "./pack-messages.ts";

const send = (message: FromPacker): void => parentPort?.postMessage(message);

/** Pieces as they arrive; saying "taken" makes room for more. */
class Inbox implements AsyncIterable<Uint8Array> {
  readonly #pieces: Uint8Array[] = [];
  #ended = false;
  #failure: NydusError | undefined;
  #wake: (() => void) | undefined;

  receive(message: Exclude<ToPacker, { kind: "start" }>): void {
    if (message.kind === "piece") this.#pieces.push(message.bytes);
    else if (message.kind === "end") this.#ended = true;
    else this.#failure = new NydusError(message.error.code, message.error.message);
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        send({ kind: "taken", bytes: piece.byteLength });
        yield piece;
      } else if (this.#ended) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}

let inbox = new Inbox();

parentPort?.on("message", (message: ToPacker) => {
  if (message.kind !== "start") {
    inbox.receive(message);
    return;
  }
  inbox = new Inbox();
  packLayer(inbox, message.options).then(
    (layer) => send({ kind: "packed", layer }),
    (error) => {
      const { code, message: text } = toNydusError(error, `convert ${message.options.what}`);
      send({ kind: "failed", error: { code, message: text } });
    },
  );
});
