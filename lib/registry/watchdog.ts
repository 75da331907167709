/** Fires when nothing has happened for too long. @module */

export class Watchdog {
  readonly #ms: number;
  readonly #bite: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number, bite: () => void) {
    this.#ms = ms;
    this.#bite = bite;
    this.touch();
  }

  /** Something happened: start again. */
  touch(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#bite, this.#ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
