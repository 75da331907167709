/**
 * Which Nydus images are mounted: one mount for each bootstrap layer, from the first active snapshot or view above it
 * to the last. Whether somebody uses an image is asked of the metastore each time, never counted apart, so nothing can
 * drift. Steps on one image wait for each other.
 *
 * @module
 */

import { isCode, NydusError, toNydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import type { Logger } from "../base/log.ts";
import { Turns } from "../base/turns.ts";
import type { AdoptedImage } from "../image/adopted.ts";
import type { ImageMountRequest } from "../mount/client.ts";
import { unmount } from "../mount/erofs.ts";
import { type AdoptLayers, isAdopted } from "./adopt-layers.ts";
import type { SnapshotDirectories } from "./directories.ts";
import type { Credentials } from "./labels.ts";
import type { Metastore, Snapshot } from "./metastore.ts";
import type { MountedImage, Mounter } from "./mounter.ts";
import { namespaceOf } from "./resolve-reference.ts";

/** References of images in containerd that have this bootstrap layer; see `findReferences`. */
export type FindReferences = (
  bootstrap: Snapshot,
  namespace: string | undefined,
) => Promise<readonly string[]>;

/** Keeps credentials that came with a pull, in memory, for the reads of an image. */
export type RememberCredentials = (reference: string, credentials: Credentials) => void;

interface Parts {
  readonly metastore: Metastore;
  readonly directories: SnapshotDirectories;
  readonly mounter: Mounter;
  readonly adopt: AdoptLayers;
  readonly findReferences: FindReferences;
  readonly rememberCredentials: RememberCredentials;
  readonly log: Logger;
}

/** An image that containers need and that could not be mounted the last time. */
export interface FailedImage {
  /** The bootstrap layer's. */
  readonly id: number;
  readonly error: string;
  /** Milliseconds since 1970 of the first failure in a row. */
  readonly since: number;
}

/** Images that are mounted again at once after a start: more would only wait for each other's registry. */
const REPAIRS = 4;

export class SnapshotImages {
  readonly #parts: Parts;
  readonly #turns = new Turns<number>();
  /** By bootstrap id, until a mount knows the image's name. They came as labels and are written nowhere. */
  readonly #credentials = new Map<number, Credentials>();
  readonly #failed = new Map<number, FailedImage>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get failed(): readonly FailedImage[] {
    return [...this.#failed.values()];
  }

  remember(bootstrapId: number, credentials: Credentials, reference: string | undefined): void {
    if (reference === undefined) this.#credentials.set(bootstrapId, credentials);
    else this.#parts.rememberCredentials(reference, credentials);
  }

  forget(bootstrapId: number): void {
    this.#credentials.delete(bootstrapId);
    this.#failed.delete(bootstrapId);
  }

  /** A data layer was skipped: its image's bootstrap comes soon. What fails now is told when it is needed. */
  async announce(): Promise<void> {
    await this.#parts.mounter.warm().catch(() => {});
  }

  /** containerd has unpacked the bootstrap; whoever pulled it is about to run a container. Failures wait until then. */
  async expect(bootstrapId: number): Promise<void> {
    const { directories, mounter, log } = this.#parts;
    try {
      await mounter.check(await directories.bootstrap(bootstrapId));
    } catch (error) {
      log.warn("a container on this image will fail", { snapshot: bootstrapId, error: messageOf(error) });
    }
  }

  /** A container will need what the registry has now. Failures wait until then. */
  async adoptAhead(layer: Snapshot): Promise<void> {
    const { reference } = layer;
    if (reference === undefined || !isAdopted(layer)) return;
    try {
      await this.#turns.run(layer.id, () => this.#bootstrap(layer, reference));
    } catch (error) {
      this.#parts.log.warn("cannot prepare an image", { snapshot: layer.name, error: messageOf(error) });
    }
  }

  /** Mount the image unless it is mounted; gives back its mount point. */
  ensure(bootstrap: Snapshot, namespace: string | undefined): Promise<string> {
    return this.#turns.run(bootstrap.id, () => this.#ensure(bootstrap, namespace));
  }

  async #ensure(bootstrap: Snapshot, namespace: string | undefined): Promise<string> {
    try {
      const references = await this.#references(bootstrap, namespace);
      const mountpoint = await this.#mountFirst(bootstrap, references, namespace);
      this.#failed.delete(bootstrap.id);
      return mountpoint;
    } catch (error) {
      const known = toNydusError(error, `mount the image of snapshot "${bootstrap.name}"`);
      const since = this.#failed.get(bootstrap.id)?.since ?? Date.now();
      this.#failed.set(bootstrap.id, { id: bootstrap.id, error: known.message, since });
      throw known;
    }
  }

  /** From the first reference that has the image. */
  async #mountFirst(
    bootstrap: Snapshot,
    references: readonly string[],
    namespace: string | undefined,
  ): Promise<string> {
    const { directories, metastore } = this.#parts;
    const mountpoint = await directories.createMountpoint(bootstrap.id);
    const credentials = this.#credentials.get(bootstrap.id);
    const request = {
      id: String(bootstrap.id),
      mountpoint,
      ...(namespace === undefined ? {} : { namespace }),
    };
    let failure: unknown;
    for (const reference of references) {
      if (credentials !== undefined) this.#parts.rememberCredentials(reference, credentials);
      try {
        const made = await this.#bootstrap(bootstrap, reference);
        const { blobs } = await this.#mount({ ...request, ...made, reference });
        metastore.learn(bootstrap.id, { reference, blobs });
        return mountpoint;
      } catch (error) {
        failure = error;
        if (!isCode(error, "not_found") && !isCode(error, "denied")) break;
      }
    }
    throw failure;
  }

  async #bootstrap(layer: Snapshot, reference: string): Promise<AdoptedImage> {
    const { directories, adopt } = this.#parts;
    if (isAdopted(layer)) return await adopt(layer, reference, directories.image(layer.id));
    return { bootstrap: await directories.bootstrap(layer.id) };
  }

  /** A mount that somebody else took away is forgotten first. */
  async #mount(request: ImageMountRequest): Promise<MountedImage> {
    const { mounter } = this.#parts;
    const mounted = await mounter.mount(request);
    if (mounted.state === "mounted") return mounted;
    await mounter.umount(request.id);
    return await mounter.mount(request);
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

  /** Whether a container or view stands on the image itself, not on a larger one that it is the lower part of. */
  #isUsed(bootstrapId: number): boolean {
    const { metastore } = this.#parts;
    const image = (id: number): number | undefined =>
      metastore.ancestors(id).find(({ layer }) => layer === "nydus-bootstrap")?.id;
    return metastore.users(bootstrapId).some(({ id }) => image(id) === bootstrapId);
  }

  /** Unmount the image if nobody uses it any more. A mount that cannot go now is tried again by `releaseUnused`. */
  release(bootstrapId: number): Promise<void> {
    return this.#turns.run(bootstrapId, async () => {
      const { mounter, log } = this.#parts;
      if (this.#isUsed(bootstrapId)) return;
      this.#failed.delete(bootstrapId);
      try {
        await mounter.umount(String(bootstrapId));
      } catch (error) {
        log.warn("cannot unmount an unused image", { snapshot: bootstrapId, error: messageOf(error) });
      }
    });
  }

  async releaseUnused(): Promise<void> {
    for (const { id } of await this.#parts.mounter.list()) await this.release(Number(id));
    for (const [id, path] of await this.#parts.directories.mounted()) await this.#releaseStray(id, path);
  }

  /** A mount that nobody serves (its server was killed together with its controller), of an image that nobody uses. */
  #releaseStray(bootstrapId: number, path: string): Promise<void> {
    return this.#turns.run(bootstrapId, async () => {
      const { mounter, log } = this.#parts;
      if (this.#isUsed(bootstrapId)) return;
      if ((await mounter.list()).some(({ mountpoint }) => mountpoint === path)) return;
      log.warn("unmounting an image that nobody serves", { mountpoint: path });
      unmount(path, { detach: true });
    });
  }

  /**
   * Mount what containers need and is not mounted. An image that cannot be mounted stops nothing.
   *
   * @returns whether nothing is missing any more
   */
  async repair(): Promise<boolean> {
    const { metastore, mounter } = this.#parts;
    const serving = new Set(
      (await mounter.list()).filter(({ state }) => state === "mounted").map(({ id }) => id),
    );
    const missing = metastore
      .list()
      .filter(({ id, layer }) => layer === "nydus-bootstrap" && !serving.has(String(id)));
    const limiter = new Limiter(REPAIRS);
    const repaired = await Promise.all(
      missing.map((bootstrap) => limiter.run(() => this.#repairOne(bootstrap))),
    );
    return repaired.every((well) => well);
  }

  #repairOne(bootstrap: Snapshot): Promise<boolean> {
    return this.#turns.run(bootstrap.id, async () => {
      const { log } = this.#parts;
      if (!this.#isUsed(bootstrap.id)) return true;
      try {
        await this.#ensure(bootstrap, bootstrap.namespace ?? namespaceOf(bootstrap.name));
        log.info("mounted an image again", { snapshot: bootstrap.name });
        return true;
      } catch (error) {
        log.warn("cannot restore an image", { snapshot: bootstrap.name, error: messageOf(error) });
        return false;
      }
    });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
