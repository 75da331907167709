/**
 * Reading a cache file around the page cache (O_DIRECT). What a thread reads of it goes to the kernel as a reply and is
 * kept in the page cache there, once for the device and once for the file system above it: a third copy below costs
 * memory and a third of the reading's processor time. While the file is being filled, though, its data is in the page
 * cache already and not yet on the disk.
 *
 * So a file is read directly when nothing was stored for a while. The mode belongs to the open file, which threads share;
 * a lease (`isOpenElsewhere`) forbids a second one.
 *
 * @module
 */
import { setDirect } from "../../ffi/libc.ts";

/** Milliseconds: by then the kernel writes back by itself. */
const SETTLED_AFTER = 30_000;

export class DirectReads implements Disposable {
  readonly #fd: number;
  #direct: boolean;
  #usedAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param fd a file that nobody is filling now */
  constructor(fd: number) {
    this.#fd = fd;
    this.#direct = setDirect(fd, true);
  }

  /** Call before this thread writes, or reads what is not aligned to blocks. */
  suspend(): void {
    this.#usedAt = performance.now();
    if (this.#direct) this.#direct = !setDirect(this.#fd, false);
    this.#timer ??= this.#after(SETTLED_AFTER);
  }

  #after(ms: number): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => this.#settle(), ms);
    timer.unref();
    return timer;
  }

  #settle(): void {
    const left = this.#usedAt + SETTLED_AFTER - performance.now();
    this.#timer = left > 0 ? this.#after(left) : undefined;
    if (this.#timer === undefined) this.#direct = setDirect(this.#fd, true);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
