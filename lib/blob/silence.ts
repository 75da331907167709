/**
 * An end to waiting for a source that gives nothing: one that is slow is waited for as long as bytes come.
 *
 * @module
 */
import { isCode, NydusError } from "../base/error.ts";

/** Milliseconds; longer than the longest pause between two attempts. */
const SECOND_LIMIT = 10_000;

export class Silence {
  readonly #limit: number | undefined;
  readonly #what: string;
  /** When the source last gave something, and when somebody last got an error instead: performance.now(). */
  #heardAt = 0;
  #gaveUpAt = 0;

  /**
   * @param limit milliseconds, from the start of a wait or from the last byte, whichever came later; without one there
   *   is no end
   * @param what completes "Cannot ..." in the error
   */
  constructor(limit: number | undefined, what: string) {
    this.#limit = limit;
    this.#what = what;
  }

  /** The source gave something. */
  broken(): void {
    this.#heardAt = performance.now();
  }

  /**
   * The work's outcome. The kernel asks several times before it gives an error to whoever reads: of its file, and of the
   * blob below it. Once a source was given up, those that follow do not all wait as long again, until something comes.
   *
   * @throws unavailable when the source was silent for too long; the work itself goes on
   */
  async within<T>(work: Promise<T>): Promise<T> {
    if (this.#limit === undefined) return await work;
    const limit = this.#gaveUpAt > this.#heardAt ? Math.min(this.#limit, SECOND_LIMIT) : this.#limit;
    try {
      return await this.#race(work, limit);
    } catch (error) {
      if (isCode(error, "unavailable")) this.#gaveUpAt = performance.now();
      throw error;
    }
  }

  async #race<T>(work: Promise<T>, limit: number): Promise<T> {
    const started = performance.now();
    const silent = Promise.withResolvers<never>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const watch = (): void => {
      const left = limit - (performance.now() - Math.max(started, this.#heardAt));
      if (left > 0) timer = setTimeout(watch, Math.ceil(left));
      else {
        const message = `Cannot ${this.#what}: nothing came for ${limit / 1000} s`;
        silent.reject(new NydusError("unavailable", message));
      }
    };
    watch();
    try {
      return await Promise.race([work, silent.promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}
