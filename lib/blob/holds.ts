/**
 * Which groups of a cache file somebody reads at the moment.
 *
 * @module
 */
import { GROUP, lastGroup } from "./cache-view.ts";

export class Holds {
  /** How many hold a group; only those above zero. */
  readonly #counts = new Map<number, number>();

  has(group: number): boolean {
    return this.#counts.has(group);
  }

  /** Holds every group that the range touches, until disposal. */
  add(offset: number, length: number): Disposable {
    const [first, last] = [Math.floor(offset / GROUP), lastGroup(offset, offset + length)];
    for (let group = first; group <= last; group++) this.#add(group, 1);
    return {
      [Symbol.dispose]: () => {
        for (let group = first; group <= last; group++) this.#add(group, -1);
      },
    };
  }

  #add(group: number, by: number): void {
    const count = (this.#counts.get(group) ?? 0) + by;
    if (count > 0) this.#counts.set(group, count);
    else this.#counts.delete(group);
  }
}
