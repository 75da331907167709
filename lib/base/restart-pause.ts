/** How long to wait before starting a process again that died. @module */

/** A process that lived this long is started again at once. */
const STABLE_MS = 2000;
const FIRST_WAIT_MS = 50;
const MOST_WAIT_MS = 5000;

/** One for each process that is to be kept running. */
export class RestartPause {
  #wait = 0;

  /** @returns milliseconds: none after a long life, doubling with every early death */
  after(livedMs: number): number {
    const early = Math.min(Math.max(this.#wait * 2, FIRST_WAIT_MS), MOST_WAIT_MS);
    this.#wait = livedMs > STABLE_MS ? 0 : early;
    return this.#wait;
  }
}
