/**
 * Which Nydus images are mounted: one mount for each bootstrap layer, from the first active snapshot or view above it
 * to the last. Whether somebody uses an image is asked of the metastore each time, never counted apart, so nothing can
 * drift. Steps on one image wait for each other.
 *
 * @module
 */
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { Turns } from "../base/turns.ts";
import type { SnapshotDirectories } from "./directories.ts";
import type { Credentials } from "./labels.ts";
import type { Metastore, Snapshot } from "./metastore.ts";
import type { Mounter } from "./mounter.ts";
import { namespaceOf } from "./resolve-reference.ts";

/** References of images in containerd that have this bootstrap layer; see `findReferences`. */
export type FindReferences = (
  bootstrap: Snapshot,
  namespace: string | undefined,
) => Promise<readonly string[]>;

interface Parts {
  readonly metastore: Metastore;
  readonly directories: SnapshotDirectories;
  readonly mounter: Mounter;
  readonly findReferences: FindReferences;
  readonly log: Logger;
}

export class ImageMounts {
  readonly #parts: Parts;
  readonly #turns = new Turns<number>();
  /** By bootstrap id. They came as labels and are written nowhere. */
  readonly #credentials = new Map<number, Credentials>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  remember(bootstrapId: number, credentials: Credentials): void {
    this.#credentials.set(bootstrapId, credentials);
  }

  forget(bootstrapId: number): void {
    this.#credentials.delete(bootstrapId);
  }

  /** Mount the image unless it is mounted; gives back its mount point. */
  ensure(bootstrap: Snapshot, namespace: string | undefined): Promise<string> {
    return this.#turns.run(bootstrap.id, async () => {
      const { directories, mounter, metastore } = this.#parts;
      const path = await directories.bootstrap(bootstrap.id);
      const mountpoint = await directories.createMountpoint(bootstrap.id);
      const credentials = this.#credentials.get(bootstrap.id);
      const request = {
        id: String(bootstrap.id),
        bootstrap: path,
        mountpoint,
        ...(credentials === undefined ? {} : { credentials }),
      };
      let failure: unknown;
      for (const reference of await this.#references(bootstrap, namespace)) {
        try {
          const { blobs } = await mounter.mount({ ...request, reference });
          metastore.learn(bootstrap.id, { reference, blobs });
          return mountpoint;
        } catch (error) {
          failure = error;
          if (!isCode(error, "not_found") && !isCode(error, "denied")) break;
        }
      }
      throw toNydusError(failure, `mount the image of snapshot "${bootstrap.name}"`);
    });
  }

  async #references(bootstrap: Snapshot, namespace: string | undefined): Promise<readonly string[]> {
    const known = this.#parts.metastore.byId(bootstrap.id)?.reference ?? bootstrap.reference;
    if (known !== undefined) return [known];
    const found = await this.#parts.findReferences(bootstrap, namespace);
    if (found.length > 0) return found;
    throw new NydusError(
      "not_found",
      `Cannot mount snapshot "${bootstrap.name}": no label says which image it belongs to, and no image in containerd has this layer`,
    );
  }

  /** Unmount the image if nobody uses it any more. A mount that cannot go now is tried again by `releaseUnused`. */
  release(bootstrapId: number): Promise<void> {
    return this.#turns.run(bootstrapId, async () => {
      const { metastore, mounter, log } = this.#parts;
      if (metastore.users(bootstrapId).length > 0) return;
      try {
        await mounter.umount(String(bootstrapId));
      } catch (error) {
        log.warn("cannot unmount an unused image", { snapshot: bootstrapId, error: messageOf(error) });
      }
    });
  }

  async releaseUnused(): Promise<void> {
    for (const { id } of await this.#parts.mounter.list()) await this.release(Number(id));
  }

  /** After a start: mount again what containers need. An image that cannot be mounted stops nothing. */
  async restore(): Promise<void> {
    const { metastore, log } = this.#parts;
    const needed = metastore
      .list()
      .filter(({ id, layer }) => layer === "nydus-bootstrap" && metastore.users(id).length > 0);
    for (const bootstrap of needed) {
      try {
        await this.ensure(bootstrap, bootstrap.namespace ?? namespaceOf(bootstrap.name));
      } catch (error) {
        log.warn("cannot restore an image", { snapshot: bootstrap.name, error: messageOf(error) });
      }
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
