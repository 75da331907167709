/** Counts and times calls, for metrics. @module */

/** Upper bounds of the histogram's buckets, in seconds; +Inf comes last by itself. */
export const BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10] as const;

/** Calls of one kind with one outcome. */
export interface OperationStatus {
  readonly operation: string;
  /** "ok" or an error code. "exists" and "not_found" are ordinary answers to containerd. */
  readonly code: string;
  readonly count: number;
  readonly seconds: number;
  /** Calls that took at most each of `BUCKETS`. */
  readonly buckets: readonly number[];
}

export class OperationRecorder {
  readonly #operations = new Map<string, { count: number; seconds: number; buckets: number[] }>();

  readonly observe = (operation: string, code: string, seconds: number): void => {
    const key = `${operation} ${code}`;
    const counts = this.#operations.get(key) ?? { count: 0, seconds: 0, buckets: BUCKETS.map(() => 0) };
    counts.count++;
    counts.seconds += seconds;
    counts.buckets = counts.buckets.map((n, i) => (seconds <= (BUCKETS[i] ?? 0) ? n + 1 : n));
    this.#operations.set(key, counts);
  };

  list(): readonly OperationStatus[] {
    return [...this.#operations].map(([key, { count, seconds, buckets }]) => {
      const [operation = "", code = ""] = key.split(" ");
      return { operation, code, count, seconds, buckets: [...buckets] };
    });
  }
}
