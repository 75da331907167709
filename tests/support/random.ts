/**
 * A small seeded generator of numbers, so that an awkward image can be made again from its seed.
 *
 * @module
 */

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b) >>> 0;
  }

  /** 32 bits: a Weyl sequence through a mixing function with full avalanche. */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  }

  /** A whole number in [0, bound). */
  below(bound: number): number {
    return this.bits() % bound;
  }

  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(share: number): boolean {
    return this.bits() < share * 0x1_0000_0000;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError("Cannot pick from an empty list");
    return item;
  }

  shuffled<T>(items: readonly T[]): T[] {
    const keyed = items.map((item) => ({ item, key: this.bits() }));
    return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
  }

  /** Bytes that no compressor makes smaller. */
  noise(size: number): Uint8Array {
    const words = new Uint32Array(Math.ceil(size / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.bits();
    return new Uint8Array(words.buffer, 0, size);
  }

  /** Bytes that every compressor makes smaller. */
  prose(size: number): Uint8Array {
    const words = ["harbour", "crane", "crate", "tide", "ledger", "rope", "anchor\n", "manifest"];
    const line = Array.from({ length: 200 }, () => this.pick(words)).join(" ");
    return Buffer.from(line.repeat(Math.ceil(size / line.length) + 1).slice(0, size), "latin1");
  }

  name(length: number): string {
    const letters = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    return Array.from({ length }, () => letters[this.below(letters.length)]).join("");
  }
}
