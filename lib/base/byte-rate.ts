/**
 * Spreads bytes over time: whoever is about to ask for some waits until those before them are paid for.
 *
 * @module
 */
import { setTimeout } from "node:timers/promises";

export class ByteRate {
  /** Bytes a second. */
  readonly #rate: number;
  #next = 0;

  constructor(rate: number) {
    this.#rate = rate;
  }

  /** Resolves when the bytes may be asked for, or at once when the signal aborts. Never rejects. */
  async wait(bytes: number, signal: AbortSignal): Promise<void> {
    const now = performance.now();
    const start = Math.max(now, this.#next);
    this.#next = start + (bytes / this.#rate) * 1000;
    if (start > now) await setTimeout(start - now, undefined, { signal }).catch(() => {});
  }
}
