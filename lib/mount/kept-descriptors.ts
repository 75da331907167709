/**
 * Another process's FUSE descriptors, held here so that its file systems outlive it; and in a store outside, where there
 * is one, so that they outlive both.
 *
 * @module
 */
import { close, ERRNO, errnoName, pidfdGetfd, pidfdOpen, setInheritable } from "../../ffi/libc.ts";
import { NydusError } from "../base/error.ts";
import type { DescriptorStore } from "../base/service-manager.ts";
import type { KeptSessions } from "./control.ts";

export class KeptDescriptors implements Disposable {
  readonly #held: Map<string, number>;
  readonly #store: DescriptorStore | undefined;

  /** @param given names and descriptors that this process was started with; those of a store are still in it */
  constructor(given: ReadonlyMap<string, number>, store?: DescriptorStore) {
    this.#held = new Map(given);
    this.#store = store;
    // Whoever started us could not say so: our own children must not get them but on purpose.
    for (const fd of given.values()) setInheritable(fd, false);
  }

  get all(): ReadonlyMap<string, number> {
    return this.#held;
  }

  /** Takes what is new, lets go of what is not named any more. @throws denied when the system forbids to take them */
  update({ pid, sessions }: KeptSessions): void {
    for (const key of [...this.#held.keys()]) if (!Object.hasOwn(sessions, key)) this.#drop(key);
    const missing = Object.entries(sessions).filter(([key]) => !this.#held.has(key));
    if (missing.length === 0) return;
    const process = checked(pidfdOpen(pid), pid);
    try {
      for (const [key, fd] of missing) this.#take(key, checked(pidfdGetfd(process, fd), pid));
    } finally {
      close(process);
    }
  }

  #take(key: string, fd: number): void {
    this.#held.set(key, fd);
    this.#store?.put(key, fd);
  }

  #drop(key: string): void {
    const fd = this.#held.get(key);
    this.#held.delete(key);
    if (fd !== undefined) close(fd);
    this.#store?.remove(key);
  }

  /** The file systems have ended: nobody will ask for them. */
  forget(): void {
    for (const key of [...this.#held.keys()]) this.#drop(key);
  }

  /** What is in the store stays there. */
  [Symbol.dispose](): void {
    for (const fd of this.#held.values()) close(fd);
    this.#held.clear();
  }
}

function checked(result: number, pid: number): number {
  if (result >= 0) return result;
  // The kernel asks whether we might trace it; so does Yama (kernel.yama.ptrace_scope), of ordinary users above all.
  throw new NydusError(
    result === -ERRNO.EPERM ? "denied" : "unavailable",
    `Cannot keep the file systems of process ${pid}: ${errnoName(-result)}`,
  );
}
