/**
 * Packs layers side by side. About half the work is compressing, which the runtime's thread pool does; so half as many
 * threads as layers keep all cores busy, and code is compiled and warmed up fewer times. Layers beyond the number at a
 * time wait.
 *
 * @module
 */
import { toNydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import type { PackedLayer } from "./pack-layer.ts";
import { PackingThread, type PackRequest } from "./packing-thread.ts";

export class PackingThreads implements AsyncDisposable {
  readonly #limiter: Limiter;
  readonly #most: number;
  readonly #threads: PackingThread[] = [];

  /** @param layers at a time */
  constructor(layers: number) {
    this.#limiter = new Limiter(Math.max(1, layers));
    this.#most = Math.max(1, Math.ceil(layers / 2));
  }

  pack(request: PackRequest): Promise<PackedLayer> {
    return this.#limiter.run(async () => {
      try {
        return await this.#leastBusy().pack(request);
      } catch (error) {
        throw toNydusError(error, `convert ${request.what}`);
      }
    });
  }

  #leastBusy(): PackingThread {
    const [idlest] = this.#threads.toSorted((a, b) => a.jobs - b.jobs);
    if (idlest !== undefined && (idlest.jobs === 0 || this.#threads.length === this.#most)) return idlest;
    const thread = new PackingThread();
    this.#threads.push(thread);
    return thread;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread[Symbol.asyncDispose]()));
  }
}
