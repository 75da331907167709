/**
 * The mounts of one process: checked bootstraps, their blobs behind a FUSE directory, and EROFS (or FUSE) on top.
 *
 * The process must never touch the file systems that it serves, except through calls that its own threads can answer.
 *
 * @module
 */
import { mkdirSync, rmdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { close } from "../../ffi/libc.ts";
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { Turns } from "../base/turns.ts";
import { BlobCache } from "../blob/cache.ts";
import { loadChunkMaps } from "../blob/load-chunk-maps.ts";
import type { Fetcher } from "../content/content.ts";
import { DEFAULT_READ_TIMEOUT } from "../registry/access.ts";
import { type CheckedBootstrap, openChecked } from "./checked-bootstrap.ts";
import { mountErofs, unmount } from "./erofs.ts";
import { erofsImage } from "./erofs-image.ts";
import { COUNTER } from "./fuse-messages.ts";
import { FuseSession, type FuseSessionOptions } from "./fuse-session.ts";
import { ImageBlobs } from "./image-blobs.ts";
import type { ImageSource, MountRequest, MountStatus } from "./mount-request.ts";
import { mountAt } from "./mount-table.ts";
import { mountOverlay } from "./overlay.ts";
import { loadState, type SavedMount, saveState } from "./saved-state.ts";
import { Traces } from "./traces.ts";

/** Threads that answer one FUSE file system. Two keep both of a small node's cores reading. */
const THREADS = 2;

export type FetcherOf = (source: ImageSource) => Promise<Fetcher & Partial<AsyncDisposable>>;

export interface ImageMountsOptions {
  /** Holds the device directory and hidden mountpoints; made, and root's alone. */
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  /** Bytes of data in the cache; without it, as much as there is room. */
  readonly cacheSize?: number | undefined;
  readonly fetcherOf: FetcherOf;
  readonly log: Logger;
}

interface MountedImage {
  readonly request: MountRequest;
  readonly blobs: ImageBlobs;
  readonly fetcher: Fetcher & Partial<AsyncDisposable>;
  readonly driver: "erofs" | "fuse";
  readonly driverReason: string;
  /** Where the image itself is mounted: the mountpoint, or below an overlay. */
  readonly imageDirectory: string;
  /** The whole file system in user space, for driver `fuse`. */
  readonly session: FuseSession | undefined;
}

/** An image on its way to being mounted. */
interface OpenedImage extends Pick<MountedImage, "blobs" | "fetcher"> {
  readonly checked: CheckedBootstrap;
}

export class ImageMounts implements AsyncDisposable {
  readonly #options: ImageMountsOptions;
  readonly #cache: BlobCache;
  readonly #traces: Traces;
  readonly #mounted = new Map<string, MountedImage>();
  /** One mount or unmount at a time for an id, in the order of the calls. */
  readonly #turns = new Turns<string>();
  #devices: FuseSession | undefined;
  #nextNumber = 0;

  constructor(options: ImageMountsOptions) {
    this.#options = options;
    mkdirSync(options.runDirectory, { recursive: true, mode: 0o700 });
    mkdirSync(options.cacheDirectory, { recursive: true, mode: 0o700 });
    this.#cache = new BlobCache(options.cacheDirectory, { limit: options.cacheSize });
    this.#traces = new Traces(options.cacheDirectory, options.log);
  }

  async mount(request: MountRequest): Promise<MountStatus> {
    return await this.#turns.run(request.id, async () => {
      const mounted = this.#mounted.get(request.id) ?? (await this.#mount(request));
      this.#mounted.set(request.id, mounted);
      this.#save();
      return this.#status(mounted);
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
    return [...this.#mounted.values()].map((mounted) => this.#status(mounted));
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
    for (const session of [this.#devices, ...[...this.#mounted.values()].map((image) => image.session)])
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
    for (const saved of state.mounts) {
      try {
        this.#mounted.set(saved.request.id, await this.#restoreImage(saved, descriptors));
      } catch (error) {
        this.#options.log.error(toNydusError(error, `restore "${saved.request.id}"`).message);
      }
    }
    const { devices = "" } = state;
    const fd = descriptors.get(devices);
    if (fd !== undefined) this.#devices = FuseSession.adopt(fd, this.#deviceOptions(devices));
    // Open but not served, a file system would make its readers wait for ever.
    const served = this.sessions;
    for (const [name, unused] of descriptors) if (!served.has(name)) close(unused);
    if (state.mounts.length > 0) this.#options.log.info("took over", { mounts: this.#mounted.size });
    this.#save();
  }

  async #restoreImage(saved: SavedMount, descriptors: ReadonlyMap<string, number>): Promise<MountedImage> {
    const { request, devices, session: name, ...rest } = saved;
    const fd = descriptors.get(name);
    if (fd === undefined)
      throw new NydusError("unavailable", `Cannot restore "${request.id}": nobody kept its file system`);
    const { blobs, fetcher } = await this.#open(request, (blob) => devices[blob] ?? this.#nextNumber++);
    const session =
      saved.driver === "fuse"
        ? FuseSession.adopt(fd, this.#imageOptions(name, request, blobs, saved.imageDirectory))
        : undefined;
    return { request, ...rest, blobs, fetcher, session };
  }

  #save(): void {
    const mounts = [...this.#mounted.values()].map(
      ({ request, driver, driverReason, imageDirectory, blobs, session }) => ({
        request,
        driver,
        driverReason,
        imageDirectory,
        devices: blobs.devices.map((device) => device.index),
        session: (session ?? this.#devices)?.name ?? "",
      }),
    );
    const devices = this.#devices === undefined ? {} : { devices: this.#devices.name };
    saveState(this.#options.runDirectory, { nextNumber: this.#nextNumber, ...devices, mounts });
  }

  async #open(request: MountRequest, deviceNumber: (blob: number) => number): Promise<OpenedImage> {
    const { cacheDirectory } = this.#options;
    const checked = await openChecked(request.bootstrap, cacheDirectory);
    const fetcher = await this.#options.fetcherOf(request.source);
    const directory = dirname(request.bootstrap);
    const keep = join(cacheDirectory, "chunk-info", checked.digest);
    const blobs = await ImageBlobs.open({
      maps: await loadChunkMaps(checked.image, { fetcher, directory, keep }),
      cache: this.#cache,
      fetcher,
      silence: readTimeout(request.source),
      log: this.#options.log.with({ mount: request.id }),
      deviceNumber,
    });
    return { checked, blobs, fetcher };
  }

  async #mount(request: MountRequest): Promise<MountedImage> {
    const opened = await this.#open(request, () => this.#nextNumber++);
    try {
      const mounted = await this.#mountOn(request, opened);
      this.#traces.begin({ ...request, bootstrap: opened.checked.digest, blobs: opened.blobs });
      return mounted;
    } catch (error) {
      opened.blobs[Symbol.dispose]();
      await opened.fetcher[Symbol.asyncDispose]?.();
      throw toNydusError(error, `mount "${request.source.location}"`);
    }
  }

  async #mountOn(request: MountRequest, opened: OpenedImage): Promise<MountedImage> {
    this.#clearStale(request);
    const imageDirectory =
      request.writable === undefined ? request.mountpoint : this.#hiddenDirectory(request.id);
    const { blobs, fetcher } = opened;
    const mounted = await this.#mountImage(request, opened, imageDirectory);
    const image: MountedImage = { request, blobs, fetcher, imageDirectory, ...mounted };
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

  async #mountImage(
    request: MountRequest,
    opened: OpenedImage,
    directory: string,
  ): Promise<Pick<MountedImage, "driver" | "driverReason" | "session">> {
    const { blobs } = opened;
    if (request.driver === "fuse") return this.#mountFuse(request, blobs, directory, "asked for");
    try {
      await this.#mountErofs(request, opened, directory);
      const reason = request.driver === "erofs" ? "asked for" : "the kernel mounts EROFS from files";
      return { driver: "erofs", driverReason: reason, session: undefined };
    } catch (error) {
      if (request.driver === "erofs" || !isCode(error, "unsupported")) throw error;
      this.#options.log.warn(error.message, { driver: "fuse" });
      return this.#mountFuse(request, blobs, directory, error.message);
    }
  }

  async #mountErofs(
    request: MountRequest,
    { checked, blobs }: OpenedImage,
    directory: string,
  ): Promise<void> {
    const primary = await erofsImage(request.bootstrap, checked, this.#options.cacheDirectory);
    const session = this.#deviceSession();
    for (const blob of blobs.blobs) session.add(blob.device, blob.reader);
    try {
      mountErofs({
        bootstrap: primary.path,
        devices: primary.blobs.map((id) => join(session.mountpoint, blobs.device(id).name)),
        mountpoint: directory,
      });
    } catch (error) {
      for (const device of blobs.devices) session.remove(device.index);
      throw error;
    }
  }

  #mountFuse(
    request: MountRequest,
    blobs: ImageBlobs,
    directory: string,
    driverReason: string,
  ): Pick<MountedImage, "driver" | "driverReason" | "session"> {
    const session = FuseSession.mount(this.#imageOptions(this.#sessionName(), request, blobs, directory));
    return { driver: "fuse", driverReason, session };
  }

  /** Never used before, like a device's number, so that nobody keeps a dead session in the place of a living one. */
  #sessionName(): string {
    return `fuse-${this.#nextNumber++}`;
  }

  #imageOptions(
    name: string,
    request: MountRequest,
    blobs: ImageBlobs,
    mountpoint: string,
  ): FuseSessionOptions {
    return {
      name,
      mountpoint,
      source: "nydus",
      bootstrap: request.bootstrap,
      // Inside one image's session a device's number is its position in the bootstrap.
      devices: blobs.devices.map((device, index) => ({ ...device, index })),
      readers: new Map(blobs.blobs.map((blob, index) => [index, blob.reader])),
      allowOther: true,
      threads: THREADS,
      log: this.#options.log,
    };
  }

  /** With the devices of all images that are mounted now. */
  #deviceOptions(name: string): FuseSessionOptions {
    const served = [...this.#mounted.values()].flatMap(({ driver, blobs }) =>
      driver === "erofs" ? blobs.blobs : [],
    );
    return {
      name,
      mountpoint: join(this.#options.runDirectory, "devices"),
      source: "nydus-blobs",
      devices: served.map((blob) => blob.device),
      readers: new Map(served.map((blob) => [blob.device.index, blob.reader])),
      allowOther: false,
      threads: THREADS,
      log: this.#options.log,
    };
  }

  /** The directory of blob files, mounted when the first image needs it. */
  #deviceSession(): FuseSession {
    if (this.#devices !== undefined) return this.#devices;
    const options = this.#deviceOptions(this.#sessionName());
    mkdirSync(options.mountpoint, { recursive: true, mode: 0o700 });
    unmountAll(options.mountpoint);
    this.#devices = FuseSession.mount(options);
    return this.#devices;
  }

  async #umount(mounted: MountedImage, detach: boolean): Promise<void> {
    if (mounted.request.writable !== undefined) unmount(mounted.request.mountpoint, { detach });
    await this.#umountImage(mounted, detach);
    await mounted.blobs.settle();
    this.#traces.end(mounted.request.id);
    mounted.blobs[Symbol.dispose]();
    await mounted.fetcher[Symbol.asyncDispose]?.();
  }

  async #umountImage(mounted: MountedImage, detach: boolean): Promise<void> {
    if (mounted.session === undefined) unmount(mounted.imageDirectory, { detach });
    else await mounted.session.unmount({ force: detach });
    if (mounted.driver === "erofs")
      for (const device of mounted.blobs.devices) this.#devices?.remove(device.index);
    if (mounted.imageDirectory !== mounted.request.mountpoint) rmdirSync(mounted.imageDirectory);
  }

  #status(mounted: MountedImage): MountStatus {
    const { request, driver, driverReason, blobs } = mounted;
    const sum = (pick: (blob: ImageBlobs["blobs"][number]) => number): number =>
      blobs.blobs.reduce((total, blob) => total + pick(blob), 0);
    return {
      id: request.id,
      mountpoint: request.mountpoint,
      reference: request.source.location,
      driver,
      driverReason,
      state: mountAt(request.mountpoint) === undefined ? "broken" : "mounted",
      writable: request.writable !== undefined,
      blobs: blobs.blobs.map((blob) => blob.cached.map.blobId),
      imageBytes: sum((blob) => blob.cached.map.compressedSize),
      fetchedBytes: sum((blob) => blob.reader.counters.storedBytes),
      requests: sum((blob) => blob.reader.counters.runs),
      chunks: sum((blob) => blob.reader.counters.chunks),
      corruptChunks: sum((blob) => blob.reader.counters.corruptChunks),
      uncachedChunks: sum((blob) => blob.reader.counters.uncached),
      hits: sum((blob) => blob.device.counters[COUNTER.HITS] ?? 0),
      misses: sum((blob) => blob.device.counters[COUNTER.MISSES] ?? 0),
    };
  }

  /** Unmounts everything, whether in use or not. A second time there is nothing to do. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of [...this.#mounted.keys()]) {
      await this.umount(id, { detach: true }).catch((error: unknown) =>
        this.#options.log.error(toNydusError(error, `unmount "${id}"`).message),
      );
    }
    await this.#devices?.unmount({ force: true });
    this.#devices = undefined;
    this.#cache[Symbol.dispose]();
  }
}

/** Milliseconds. */
function readTimeout(source: ImageSource): number {
  return (source.readTimeout ?? DEFAULT_READ_TIMEOUT) * 1000;
}

function unmountAll(mountpoint: string): void {
  for (let guard = 0; mountAt(mountpoint) !== undefined; guard++) {
    if (guard === 100)
      throw new NydusError("busy", `Cannot use "${mountpoint}": something keeps being mounted there`);
    unmount(mountpoint, { detach: true });
  }
}
