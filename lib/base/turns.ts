/**
 * Work on one thing happens one step at a time, in the order of the calls; work on other things goes on beside it.
 *
 * @module
 */
export class Turns<Key> {
  /** The last step of each thing that has any. */
  readonly #last = new Map<Key, Promise<unknown>>();

  /** Runs `work` after all earlier work on `key`, whether that succeeded or not. */
  async run<T>(key: Key, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.#last.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(key) === mine) this.#last.delete(key);
    }
  }
}
