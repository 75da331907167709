/**
 * An end to waiting for a source that gives nothing: one that is slow is waited for as long as bytes come.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";

export interface SilenceOptions {
  /** Milliseconds, from the start of the wait or from the last byte, whichever came later. */
  readonly limit: number;
  /** When the source last gave something: performance.now(). */
  readonly heardAt: () => number;
  /** Completes "Cannot ..." in the error. */
  readonly what: string;
}

/** The work's outcome. @throws unavailable when the source was silent for too long; the work itself goes on */
export async function unlessSilent<T>(work: Promise<T>, options: SilenceOptions): Promise<T> {
  const { limit, heardAt, what } = options;
  const started = performance.now();
  const silent = Promise.withResolvers<never>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const watch = (): void => {
    const left = limit - (performance.now() - Math.max(started, heardAt()));
    if (left > 0) timer = setTimeout(watch, Math.ceil(left));
    else silent.reject(new NydusError("unavailable", `Cannot ${what}: nothing came for ${limit / 1000} s`));
  };
  watch();
  try {
    return await Promise.race([work, silent.promise]);
  } finally {
    clearTimeout(timer);
  }
}
