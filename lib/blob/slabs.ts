/**
 * Memory that is used again and again: so many pieces, whoever wants one more waits. However late garbage is collected,
 * there is never more of it.
 *
 * @module
 */

/** Bytes; a piece that has to be larger is used once. */
export const USUAL = 2 << 20;

export interface Slab extends Disposable {
  /** At least as much as was asked for, and whatever was in it before. */
  readonly buffer: SharedArrayBuffer;
}

export class Slabs {
  readonly #spare: SharedArrayBuffer[] = [];
  readonly #waiting: (() => void)[] = [];
  #left: number;

  constructor(count: number) {
    this.#left = count;
  }

  /** Waits until one is free. Disposal gives it back: nobody may look at it any more. */
  async take(bytes: number): Promise<Slab> {
    if (this.#left > 0) this.#left--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const spare = bytes <= USUAL ? this.#spare.pop() : undefined;
    const buffer = spare ?? new SharedArrayBuffer(Math.max(bytes, USUAL));
    return { buffer, [Symbol.dispose]: () => this.#giveBack(buffer) };
  }

  #giveBack(buffer: SharedArrayBuffer): void {
    if (buffer.byteLength === USUAL) this.#spare.push(buffer);
    const next = this.#waiting.shift();
    if (next === undefined) this.#left++;
    else next();
  }

  /** Lets go of those that nobody uses. */
  shrink(): void {
    this.#spare.length = 0;
  }
}
