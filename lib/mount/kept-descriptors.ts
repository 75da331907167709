/**
 * Another process's FUSE descriptors, held here so that its file systems outlive it.
 *
 * @module
 */
import { close, errnoName, pidfdGetfd, pidfdOpen } from "../../ffi/libc.ts";
import { NydusError } from "../base/error.ts";
import type { KeptSessions } from "./control.ts";

export class KeptDescriptors implements Disposable {
  readonly #held: Map<string, number>;

  /** @param given names and descriptors that this process was started with */
  constructor(given: ReadonlyMap<string, number>) {
    this.#held = new Map(given);
  }

  get all(): ReadonlyMap<string, number> {
    return this.#held;
  }

  /** Takes what is new, lets go of what is not named any more. */
  update({ pid, sessions }: KeptSessions): void {
    for (const key of [...this.#held.keys()]) if (!Object.hasOwn(sessions, key)) this.#drop(key);
    const missing = Object.entries(sessions).filter(([key]) => !this.#held.has(key));
    if (missing.length === 0) return;
    const process = checked(pidfdOpen(pid), pid);
    try {
      for (const [key, fd] of missing) this.#held.set(key, checked(pidfdGetfd(process, fd), pid));
    } finally {
      close(process);
    }
  }

  #drop(key: string): void {
    const fd = this.#held.get(key);
    this.#held.delete(key);
    if (fd !== undefined) close(fd);
  }

  [Symbol.dispose](): void {
    for (const key of [...this.#held.keys()]) this.#drop(key);
  }
}

function checked(result: number, pid: number): number {
  if (result >= 0) return result;
  throw new NydusError(
    "unavailable",
    `Cannot keep the file systems of process ${pid}: ${errnoName(-result)}`,
  );
}
