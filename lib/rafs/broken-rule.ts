/**
 * Rules that a bootstrap breaks. Readers refuse it at the first one; the check takes notes, and goes on where it can.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";

/** `corrupt`, and where. */
export class BrokenRule extends NydusError {
  /** Byte offset in the bootstrap. */
  readonly offset: number;

  constructor(offset: number, state: string) {
    super("corrupt", `Cannot read the bootstrap: ${state}`);
    this.offset = offset;
  }
}

/** Is told of each broken rule; returns when the reader may go on. */
export type Complain = (broken: NydusError) => void;

/** For all who want a bootstrap that can be trusted. */
export const refuse: Complain = (broken) => {
  throw broken;
};

/** Gathers what makes it impossible to go on, so that all of it is told before the reader gives up. */
export class Fatal {
  readonly #broken: NydusError[] = [];

  add(broken: NydusError): void {
    this.#broken.push(broken);
  }

  /** @throws the last one, when there are any */
  throw(complain: Complain): void {
    const last = this.#broken.pop();
    for (const broken of this.#broken) complain(broken);
    if (last !== undefined) throw last;
  }
}
