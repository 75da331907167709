/**
 * Trying again what may succeed later: only errors with code `unavailable`, with growing delays or the one that the
 * other side asked for, until attempts or time run out.
 *
 * @module
 */
import { mayPass, NydusError, toNydusError } from "../base/error.ts";
import { DEFAULT_READ_TIMEOUT } from "./access.ts";

export interface RetryPolicy {
  /** How often in all; 1 = never again. A blob that several places serve: so often at each. */
  readonly attempts: number;
  /** How often a registry that refuses a blob (401, 403) is asked in all: that may be a mistake that passes. */
  readonly refusals: number;
  /** Milliseconds with nothing from the other side after which no more is tried, whatever attempts are left. */
  readonly limit: number;
  /** Milliseconds before the second attempt; each further wait is three times the last. */
  readonly firstDelay: number;
  readonly maxDelay: number;
  /** A wait longer than this (milliseconds) that the other side asks for is not worth it: fail. */
  readonly maxRetryAfter: number;
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
  /** 0 to 1. */
  random(): number;
}

export const DEFAULT_RETRY: RetryPolicy = {
  attempts: 5,
  refusals: 1,
  limit: DEFAULT_READ_TIMEOUT * 1000,
  firstDelay: 200,
  maxDelay: 5_000,
  maxRetryAfter: 60_000,
  sleep,
  random: Math.random,
};

export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const started = performance.now();
  for (let failures = 1; ; failures++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof NydusError) || !mayPass(error)) throw error;
      const waited = performance.now() - started;
      const outOfTime = waited >= policy.limit;
      if (outOfTime || failures >= policy.attempts) throw givenUp(error, { failures, waited, outOfTime });
      await pauseAfter(policy, error, failures, signal);
    }
  }
}

/** People should see that it was not one mishap, and what they can do. */
function givenUp(
  error: NydusError,
  { failures, waited, outOfTime }: { failures: number; waited: number; outOfTime: boolean },
): NydusError {
  const tried = failures === 1 ? "" : ` (asked ${failures} times in ${Math.round(waited / 1000)} s)`;
  const advice = "check that it is up and can be reached from here, or try again later";
  const { retryAfter } = error;
  return new NydusError("unavailable", `${error.message}${tried}; ${advice}`, {
    cause: error,
    outOfTime,
    ...(retryAfter === undefined ? {} : { retryAfter }),
  });
}

/** Waits before the next attempt. @throws the error itself when the wait makes no sense */
export async function pauseAfter(
  policy: RetryPolicy,
  error: unknown,
  failures: number,
  signal?: AbortSignal,
): Promise<void> {
  if (signal?.aborted === true) throw error;
  const seconds = error instanceof NydusError ? error.retryAfter : undefined;
  const asked = seconds === undefined ? undefined : seconds * 1000;
  if (asked !== undefined && asked > policy.maxRetryAfter) throw error;
  const growing = Math.min(policy.maxDelay, policy.firstDelay * 3 ** (failures - 1));
  // Many readers that failed together must not come back together.
  await policy.sleep(Math.max(asked ?? 0, growing * (0.5 + policy.random() / 2)), signal);
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(toNydusError(signal?.reason, "go on"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
