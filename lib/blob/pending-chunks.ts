/**
 * Chunks on their way: each is asked for once, and whoever wants it waits for the same outcome.
 *
 * @module
 */

/** A chunk's data, where it did not fit the cache; otherwise it is to be read from there. */
export type Arrival = Uint8Array | undefined;

interface Pending extends PromiseWithResolvers<Arrival> {
  /** Somebody waits for it; otherwise it is only read ahead. */
  wanted: boolean;
}

export class PendingChunks {
  readonly #pending = new Map<number, Pending>();

  has(chunk: number): boolean {
    return this.#pending.has(chunk);
  }

  isWanted(chunk: number): boolean {
    return this.#pending.get(chunk)?.wanted === true;
  }

  /** From now on it is on its way. */
  expect(chunk: number): void {
    if (this.#pending.has(chunk)) return;
    const pending = { ...Promise.withResolvers<Arrival>(), wanted: false };
    // Nobody may be waiting for a chunk that was only read ahead.
    pending.promise.catch(() => {});
    this.#pending.set(chunk, pending);
  }

  /** Waits for a chunk, if it is on its way. */
  arrival(chunk: number): Promise<Arrival> | undefined {
    const pending = this.#pending.get(chunk);
    if (pending !== undefined) pending.wanted = true;
    return pending?.promise;
  }

  arrived(chunk: number, data: Arrival): void {
    this.#pending.get(chunk)?.resolve(data);
    this.#pending.delete(chunk);
  }

  fail(chunk: number, error: unknown): void {
    this.#pending.get(chunk)?.reject(error);
    this.#pending.delete(chunk);
  }

  /** Resolves when nothing is on its way any more. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0)
      await Promise.allSettled(Array.from(this.#pending.values(), ({ promise }) => promise));
  }
}
