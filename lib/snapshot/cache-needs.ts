/**
 * What of the cache the snapshots may still need: the blobs of their layers, and what was noted about their bootstraps.
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { Digester, digestHex } from "../base/digest.ts";
import { toNydusError } from "../base/error.ts";
import type { NeededCache } from "../mount/cache-garbage.ts";
import type { SnapshotDirectories } from "./directories.ts";
import type { Metastore } from "./metastore.ts";

export class CacheNeeds {
  readonly #metastore: Metastore;
  readonly #directories: SnapshotDirectories;
  /** Hex digests by the snapshot's id. A committed layer does not change. */
  readonly #digests = new Map<number, string>();

  constructor(metastore: Metastore, directories: SnapshotDirectories) {
    this.#metastore = metastore;
    this.#directories = directories;
  }

  async find(): Promise<NeededCache> {
    const snapshots = this.#metastore.list();
    const bootstraps = snapshots.filter(
      ({ layer, kind }) => layer === "nydus-bootstrap" && kind === "committed",
    );
    const known = new Set(bootstraps.map(({ id }) => id));
    for (const id of this.#digests.keys()) if (!known.has(id)) this.#digests.delete(id);
    for (const id of known) await this.#learn(id);
    return {
      blobs: new Set(snapshots.flatMap(({ blobs }) => blobs)),
      bootstraps: new Set(this.#digests.values()),
    };
  }

  async #learn(id: number): Promise<void> {
    if (this.#digests.has(id)) return;
    try {
      const digester = new Digester();
      for await (const part of createReadStream(await this.#directories.bootstrap(id))) digester.update(part);
      this.#digests.set(id, digestHex(digester.finish()));
    } catch (error) {
      // Removed meanwhile, or without a bootstrap: then nothing was noted about it.
      const { code } = toNydusError(error, "read a bootstrap");
      if (code !== "not_found" && code !== "corrupt") throw error;
    }
  }
}
