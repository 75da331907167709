/**
 * The mounts of one process: checked bootstraps, their blobs behind a FUSE directory, and EROFS (or FUSE) on top.
 *
 * The process must never touch the file systems that it serves, except through calls that its own threads can answer.
 *
 * @module
 */
import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { close } from "../../ffi/libc.ts";
import { NydusError, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { Turns } from "../base/turns.ts";
import { BlobCache } from "../blob/cache.ts";
import type { ScrubCounts } from "../blob/scrub.ts";
import type { Trace } from "../blob/trace.ts";
import { lostMount, mountIdAt, stillBroken } from "./broken-mounts.ts";
import { openChecked } from "./checked-bootstrap.ts";
import { Drivers } from "./drivers.ts";
import { unmount } from "./erofs.ts";
import type { ServedBlob } from "./image-blobs.ts";
import { type FetcherOf, ImageOpener, type OpenedImage } from "./image-opener.ts";
import type { MountRequest, MountStatus } from "./mount-request.ts";
import { mountAt } from "./mount-table.ts";
import { type MountedImage, statusOf } from "./mounted-image.ts";
import { mountOverlay } from "./overlay.ts";
import { type LostMount, loadState, type SavedMount, saveState } from "./saved-state.ts";
import { Traces } from "./traces.ts";

export interface ImageMountsOptions {
  /** Holds the device directory and hidden mountpoints; made, and root's alone. */
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  /** Bytes of data in the cache; without it, as much as there is room. */
  readonly cacheSize?: number | undefined;
  readonly fetcherOf: FetcherOf;
  readonly log: Logger;
}

export class ImageMounts implements AsyncDisposable {
  readonly #options: ImageMountsOptions;
  readonly #cache: BlobCache;
  readonly #traces: Traces;
  readonly #mounted = new Map<string, MountedImage>();
  /** One mount or unmount at a time for an id, in the order of the calls. */
  readonly #turns = new Turns<string>();
  readonly #drivers: Drivers;
  readonly #opener: ImageOpener;
  #lost: readonly LostMount[] = [];
  #nextNumber = 0;
  /** Set when a successor goes on with everything. */
  #left = false;

  constructor(options: ImageMountsOptions) {
    this.#options = options;
    mkdirSync(options.runDirectory, { recursive: true, mode: 0o700 });
    mkdirSync(options.cacheDirectory, { recursive: true, mode: 0o700 });
    this.#cache = new BlobCache(options.cacheDirectory, { limit: options.cacheSize });
    this.#traces = new Traces(options.cacheDirectory, options.log);
    this.#opener = new ImageOpener({ ...options, cache: this.#cache, traces: this.#traces });
    this.#drivers = new Drivers({ ...options, nextNumber: this.#takeNumber });
  }

  /** Made here: the blobs of an image keep it, and with it whatever else is known where it is made. */
  readonly #takeNumber = (): number => this.#nextNumber++;

  async mount(request: MountRequest): Promise<MountStatus> {
    return await this.#turns.run(request.id, async () => {
      const mounted = this.#mounted.get(request.id) ?? (await this.#mount(request));
      this.#mounted.set(request.id, mounted);
      this.#opener.restSoon();
      this.#save();
      return statusOf(mounted);
    });
  }

  /** Ahead of a mount. @throws what mounting this bootstrap would throw */
  async check(bootstrap: string): Promise<void> {
    await openChecked(bootstrap, this.#options.cacheDirectory);
  }

  /** @returns false when there is no such mount. @throws busy when it is in use, unless `detach` */
  async umount(id: string, options: { readonly detach?: boolean } = {}): Promise<boolean> {
    return await this.#turns.run(id, async () => {
      const mounted = this.#mounted.get(id);
      if (mounted === undefined) return false;
      await this.#umount(mounted, options.detach === true);
      this.#mounted.delete(id);
      this.#save();
      return true;
    });
  }

  list(): MountStatus[] {
    return [...this.#mounted.values()].map(statusOf);
  }

  /** Reads everything back that is cached of mounted images; what is damaged is fetched again. */
  async scrub(): Promise<ScrubCounts> {
    const before = { ...this.#cache.scrubbed };
    for (const { blobs } of [...this.#mounted.values()]) await blobs.scrub();
    const { checkedChunks, damagedChunks } = this.#cache.scrubbed;
    return {
      checkedChunks: checkedChunks - before.checkedChunks,
      damagedChunks: damagedChunks - before.damagedChunks,
    };
  }

  /** What was read of an image since it was opened. @throws not_found */
  reads(id: string): ImageReads {
    const mounted = this.#mounted.get(id);
    if (mounted === undefined)
      throw new NydusError("not_found", `Cannot find mount "${id}": it does not exist`);
    return { bootstrap: mounted.request.bootstrap, ranges: mounted.blobs.trace() };
  }

  /** Mounts that somebody else has unmounted are cleaned up after. @returns how many mounts are left */
  async reap(): Promise<number> {
    for (const [id, mounted] of [...this.#mounted]) {
      if (mountAt(mounted.request.mountpoint) === undefined) await this.umount(id, { detach: true });
    }
    return this.#mounted.size;
  }

  get cache(): BlobCache {
    return this.#cache;
  }

  /** Descriptors that keep the file systems alive when this process is killed, by what they are for. */
  get sessions(): ReadonlyMap<string, number> {
    const found = new Map<string, number>();
    for (const session of [
      this.#drivers.devices,
      ...[...this.#mounted.values()].map((image) => image.session),
    ])
      if (session !== undefined) found.set(session.name, session.descriptor);
    return found;
  }

  /**
   * Goes on where a killed process stopped. Call once, first.
   *
   * @param descriptors what `sessions` named in that process
   */
  async restore(descriptors: ReadonlyMap<string, number>): Promise<void> {
    const state = loadState(this.#options.runDirectory);
    this.#nextNumber = state.nextNumber;
    this.#lost = state.lost;
    for (const saved of state.mounts) {
      try {
        this.#mounted.set(saved.request.id, await this.#restoreImage(saved, descriptors));
      } catch (error) {
        this.#options.log.error(toNydusError(error, `restore "${saved.request.id}"`).message);
        this.#lost = [...this.#lost, lostMount(saved)];
      }
    }
    const { devices = "" } = state;
    const fd = descriptors.get(devices);
    if (fd !== undefined) this.#drivers.adoptDevices(devices, fd, this.#served);
    // Open but not served, a file system would make its readers wait for ever.
    const served = this.sessions;
    for (const [name, unused] of descriptors) if (!served.has(name)) close(unused);
    if (state.mounts.length > 0) this.#options.log.info("took over", { mounts: this.#mounted.size });
    this.#save();
  }

  async #restoreImage(saved: SavedMount, descriptors: ReadonlyMap<string, number>): Promise<MountedImage> {
    const { request, devices, session: name, ...rest } = saved;
    const fd = descriptors.get(name);
    // Without a session the kernel reads cache files only, and needs nobody.
    if (fd === undefined && name !== "")
      throw new NydusError("unavailable", `Cannot restore "${request.id}": nobody kept its file system`);
    const { blobs, fetcher, format } = await this.#opener.open(
      request,
      (blob) => devices[blob] ?? this.#nextNumber++,
    );
    const session =
      saved.driver === "fuse" && fd !== undefined
        ? this.#drivers.adoptImage(name, fd, request, blobs, saved.imageDirectory)
        : undefined;
    blobs.checkAfterUncleanStop();
    return { request, ...rest, format, blobs, fetcher, session };
  }

  /** Blobs that the directory of blob files shows. */
  get #served(): ServedBlob[] {
    return [...this.#mounted.values()].flatMap(({ driver, directBlobs, blobs }) =>
      driver === "fuse" ? [] : blobs.blobs.filter(({ cached }) => !directBlobs.includes(cached.map.blobId)),
    );
  }

  #save(): void {
    const mounts = [...this.#mounted.values()].map(
      ({ request, driver, driverReason, directBlobs, imageDirectory, blobs, session }) => ({
        request,
        driver,
        driverReason,
        directBlobs,
        imageDirectory,
        mountId: mountIdAt(imageDirectory),
        devices: blobs.devices.map((device) => device.index),
        session:
          directBlobs.length === blobs.blobs.length ? "" : ((session ?? this.#drivers.devices)?.name ?? ""),
      }),
    );
    const { devices: session } = this.#drivers;
    const devices = session === undefined ? {} : { devices: session.name };
    const left = new Set(stillBroken(this.#lost).map(({ since, id }) => `${since} ${id}`));
    this.#lost = this.#lost.filter(({ since, id }) => left.has(`${since} ${id}`));
    saveState(this.#options.runDirectory, {
      nextNumber: this.#nextNumber,
      ...devices,
      mounts,
      lost: this.#lost,
    });
  }

  async #mount(request: MountRequest): Promise<MountedImage> {
    const opened = await this.#opener.open(request, this.#takeNumber);
    try {
      const mounted = await this.#mountOn(request, opened);
      opened.blobs.checkAfterUncleanStop();
      this.#fetchAhead(request, opened);
      return mounted;
    } catch (error) {
      opened.blobs[Symbol.dispose]();
      await opened.fetcher[Symbol.asyncDispose]?.();
      throw toNydusError(error, `mount "${request.source.location}"`);
    }
  }

  #fetchAhead(request: MountRequest, { checked, blobs, lists }: OpenedImage): void {
    const { paths } = request.prefetch ?? {};
    this.#traces.begin({
      ...request,
      image: checked.image,
      bootstrap: checked.digest,
      blobs,
      ...(paths === undefined ? {} : { paths }),
      ...lists,
    });
  }

  async #mountOn(request: MountRequest, opened: OpenedImage): Promise<MountedImage> {
    this.#clearStale(request);
    const imageDirectory =
      request.writable === undefined ? request.mountpoint : this.#hiddenDirectory(request.id);
    const { blobs, fetcher, format } = opened;
    const mounted = await this.#drivers.mount(request, opened, imageDirectory);
    const image: MountedImage = { request, format, blobs, fetcher, imageDirectory, ...mounted };
    if (request.writable === undefined) return image;
    try {
      mountOverlay(imageDirectory, request.writable, request.mountpoint);
    } catch (error) {
      await this.#umountImage(image, false);
      throw error;
    }
    return image;
  }

  /** What a server that died left behind is in the way of its successor. */
  #clearStale(request: MountRequest): void {
    const there = mountAt(request.mountpoint);
    if (there?.type !== "erofs" && there?.type !== "fuse.nydus") return;
    this.#options.log.warn("replacing a mount that no server answers for", {
      mountpoint: request.mountpoint,
    });
    unmount(request.mountpoint, { detach: true });
  }

  #hiddenDirectory(id: string): string {
    const path = join(this.#options.runDirectory, "images", Buffer.from(id).toString("hex").slice(0, 200));
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  }

  async #umount(mounted: MountedImage, detach: boolean): Promise<void> {
    if (mounted.request.writable !== undefined) unmount(mounted.request.mountpoint, { detach });
    await this.#umountImage(mounted, detach);
    const learning = this.#traces.isLearning(mounted.request.id);
    await mounted.blobs.settle(learning ? mounted.blobs.fillMargins() : undefined);
    await this.#traces.end(mounted.request.id);
    mounted.blobs[Symbol.dispose]();
    await mounted.fetcher[Symbol.asyncDispose]?.();
  }

  async #umountImage(mounted: MountedImage, detach: boolean): Promise<void> {
    await this.#drivers.umount(mounted, mounted.blobs, mounted.imageDirectory, detach);
    if (mounted.imageDirectory !== mounted.request.mountpoint) rmdirSync(mounted.imageDirectory);
  }

  /**
   * Leaves everything mounted to a successor that has the descriptors. Threads serve until the process ends, which must
   * be right after; the cache is closed in order, so the successor believes it.
   */
  leave(): void {
    this.#left = true;
    this.#cache.seal();
  }

  /** Unmounts everything, whether in use or not. A second time there is nothing to do. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#left) return;
    for (const id of [...this.#mounted.keys()]) {
      await this.umount(id, { detach: true }).catch((error: unknown) =>
        this.#options.log.error(toNydusError(error, `unmount "${id}"`).message),
      );
    }
    await this.#drivers[Symbol.asyncDispose]();
    await this.#opener[Symbol.asyncDispose]();
    this.#cache[Symbol.dispose]();
  }
}

/** For whoever wants to know which files they are. */
export interface ImageReads {
  readonly bootstrap: string;
  readonly ranges: Trace;
}
