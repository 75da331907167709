/**
 * Violations as the check finds them. Paths are put together only for what is reported.
 *
 * @module
 */
import { byteString, printable } from "../base/byte-string.ts";
import { isCode, type NydusError } from "../base/error.ts";
import { BrokenRule } from "./broken-rule.ts";

export interface Violation {
  /** In the image: "/usr/bin/x"; "" for the tables. */
  readonly path: string;
  /** Byte offset in the bootstrap of the structure that is wrong, as near as it is known. */
  readonly offset: number;
  readonly message: string;
}

/** A node by where its name stands in the bootstrap, and whose entry it is. */
export interface Here {
  readonly parent: Here | undefined;
  readonly nameAt: number;
  readonly nameSize: number;
}

/** Of no node: superblocks and tables. */
export const TABLES: Here = { parent: undefined, nameAt: 0, nameSize: -1 };

/** A damaged image can break every rule a million times. */
const MAX_VIOLATIONS = 1000;
/** Names shown of a deep path. */
const MAX_SHOWN = 100;

export class Report {
  readonly violations: Violation[] = [];
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get full(): boolean {
    return this.violations.length >= MAX_VIOLATIONS;
  }

  add(here: Here, offset: number, message: string): void {
    if (!this.full) this.violations.push({ path: this.#path(here), offset, message });
  }

  /** Only what damaged bytes cause is a violation. */
  caught(here: Here, offset: number, error: unknown): void {
    if (!isCode(error, "corrupt") && !isCode(error, "unsupported")) throw error;
    this.add(here, error instanceof BrokenRule ? error.offset : offset, messageOf(error));
  }

  guard(here: Here, offset: number, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.caught(here, offset, error);
    }
  }

  #path(here: Here): string {
    if (here.nameSize < 0) return "";
    const names: string[] = [];
    for (let node: Here = here; node.parent !== undefined; node = node.parent) {
      if (names.length === MAX_SHOWN) {
        names.push("...");
        break;
      }
      names.push(printable(byteString(this.#bytes.subarray(node.nameAt, node.nameAt + node.nameSize))));
    }
    return `/${names.reverse().join("/")}`;
  }
}

function messageOf(error: NydusError): string {
  return error.message.replace(/^Cannot (?:read|use) the bootstrap: /, "");
}
