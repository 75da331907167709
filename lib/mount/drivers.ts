/**
 * How an opened image becomes a mounted one: kernel EROFS on blob files that a FUSE directory serves (or on the cache
 * files themselves, once they are complete and proven), with or without loop devices between; or the whole file system
 * over FUSE. `auto` takes the first that works.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { isRoot } from "../base/self.ts";
import type { CheckedBootstrap } from "./checked-bootstrap.ts";
import { unmount } from "./erofs.ts";
import { mountErofsAside } from "./erofs-aside.ts";
import { type ErofsImage, erofsImage } from "./erofs-image.ts";
import { FuseSession, type FuseSessionOptions } from "./fuse-session.ts";
import { FuseThreads } from "./fuse-threads.ts";
import type { ImageBlobs, ServedBlob } from "./image-blobs.ts";
import type { MountedDriver, MountRequest } from "./mount-request.ts";
import { mountAt } from "./mount-table.ts";

type KernelDriver = Exclude<MountedDriver, "fuse">;
/** In the order in which `auto` tries them. */
const KERNEL_DRIVERS: readonly KernelDriver[] = ["erofs", "erofs-loop"];
const WHY = {
  erofs: "the kernel mounts EROFS from files",
  "erofs-loop": "the kernel mounts EROFS from loop devices",
} as const;

/** What a driver made of an image. */
export interface DrivenImage {
  readonly driver: MountedDriver;
  readonly driverReason: string;
  /** Ids of blobs whose cache files the kernel reads by itself. */
  readonly directBlobs: readonly string[];
  /** The whole file system in user space, for driver `fuse`. */
  readonly session: FuseSession | undefined;
}

export interface DriversOptions {
  /** Holds the device directory. */
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  /** A number that no session and no device ever had. */
  readonly nextNumber: () => number;
  readonly log: Logger;
}

interface DrivableImage {
  readonly checked: CheckedBootstrap;
  readonly blobs: ImageBlobs;
}

export class Drivers implements AsyncDisposable {
  readonly #options: DriversOptions;
  readonly #threads = new FuseThreads();
  #devices: FuseSession | undefined;

  constructor(options: DriversOptions) {
    this.#options = options;
  }

  /** The directory of blob files, while there is one. */
  get devices(): FuseSession | undefined {
    return this.#devices;
  }

  async mount(request: MountRequest, image: DrivableImage, directory: string): Promise<DrivenImage> {
    const asked = request.driver;
    const reasons = isRoot() ? [] : ["the kernel lets only root mount EROFS"];
    const drivers = isRoot() ? KERNEL_DRIVERS : [];
    for (const driver of asked === "auto" ? drivers : [asked]) {
      if (driver === "fuse") break;
      try {
        const directBlobs = await this.#mountErofs(request, image, directory, driver);
        const driverReason = asked === "auto" ? [...reasons, WHY[driver]].join("; ") : "asked for";
        return { driver, driverReason, directBlobs, session: undefined };
      } catch (error) {
        if (asked !== "auto" || !isCode(error, "unsupported")) throw error;
        this.#options.log.warn(error.message, { driver });
        reasons.push(error.message);
      }
    }
    const driverReason = asked === "fuse" ? "asked for" : reasons.join("; ");
    return await this.#mountFuse(request, image.blobs, directory, driverReason);
  }

  async umount(image: DrivenImage, blobs: ImageBlobs, directory: string, detach: boolean): Promise<void> {
    if (image.session !== undefined) return await image.session.unmount({ force: detach });
    unmount(directory, { detach });
    for (const device of blobs.devices) this.#devices?.remove(device.index);
  }

  /** Goes on with the directory of blob files of a dead process. */
  adoptDevices(name: string, fd: number, served: readonly ServedBlob[]): void {
    this.#devices = FuseSession.adopt(fd, this.#deviceOptions(name, served));
  }

  /** Goes on with an image's own file system of a dead process. */
  adoptImage(
    name: string,
    fd: number,
    request: MountRequest,
    blobs: ImageBlobs,
    directory: string,
  ): FuseSession {
    return FuseSession.adopt(fd, this.#imageOptions(name, request, blobs, directory));
  }

  /** @returns ids of the blobs that the kernel reads by itself */
  async #mountErofs(
    request: MountRequest,
    { checked, blobs }: DrivableImage,
    directory: string,
    driver: KernelDriver,
  ): Promise<readonly string[]> {
    const primary = await erofsImage(request.bootstrap, checked, this.#options.cacheDirectory);
    const proven = await blobs.proven();
    // Until the kernel has the files open nothing may leave them; from then on their leases tell (eviction.md).
    const pins = proven.map(({ cached }) => cached.file.pin());
    const mountOver = async (direct: readonly ServedBlob[]): Promise<readonly string[]> => {
      await this.#mountOver(primary, blobs, { direct: new Set(direct), driver, directory });
      return direct.map(({ cached }) => cached.map.blobId);
    };
    try {
      return await mountOver(proven);
    } catch (error) {
      if (proven.length === 0 || isCode(error, "unsupported")) throw error;
      this.#options.log.warn(toNydusError(error, "mount cache files").message, { id: request.id });
      return await mountOver([]);
    } finally {
      for (const pin of pins) pin[Symbol.dispose]();
    }
  }

  async #mountOver(
    primary: ErofsImage,
    blobs: ImageBlobs,
    {
      direct,
      driver,
      directory,
    }: { direct: ReadonlySet<ServedBlob>; driver: KernelDriver; directory: string },
  ): Promise<void> {
    const served = blobs.blobs.filter((blob) => !direct.has(blob));
    const session = served.length > 0 ? this.#deviceSession() : undefined;
    for (const blob of served) session?.add(blob.device, blob.reader);
    const devices = primary.blobs.map((id) => {
      const blob = blobs.blob(id);
      return direct.has(blob) ? blob.cached.path : join(session?.mountpoint ?? "", blob.device.name);
    });
    try {
      const loops = driver === "erofs-loop";
      await mountErofsAside({ bootstrap: primary.path, devices, mountpoint: directory, loops });
    } catch (error) {
      for (const { device } of served) session?.remove(device.index);
      throw error;
    }
  }

  async #mountFuse(
    request: MountRequest,
    blobs: ImageBlobs,
    directory: string,
    driverReason: string,
  ): Promise<DrivenImage> {
    const options = this.#imageOptions(this.#sessionName(), request, blobs, directory);
    const session = isRoot() ? FuseSession.mount(options) : await FuseSession.mountAsUser(options);
    return { driver: "fuse", driverReason, directBlobs: [], session };
  }

  /** Never used before, like a device's number, so that nobody keeps a dead session in the place of a living one. */
  #sessionName(): string {
    return `fuse-${this.#options.nextNumber()}`;
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
      threads: this.#threads,
      log: this.#options.log,
    };
  }

  #deviceOptions(name: string, served: readonly ServedBlob[]): FuseSessionOptions {
    return {
      name,
      mountpoint: join(this.#options.runDirectory, "devices"),
      source: "nydus-blobs",
      devices: served.map((blob) => blob.device),
      readers: new Map(served.map((blob) => [blob.device.index, blob.reader])),
      allowOther: false,
      threads: this.#threads,
      log: this.#options.log,
    };
  }

  /** Mounted when the first image needs it. */
  #deviceSession(): FuseSession {
    if (this.#devices !== undefined) return this.#devices;
    const options = this.#deviceOptions(this.#sessionName(), []);
    // First: nobody can look at a mount point whose server is dead, not even to see that it is there.
    unmountAll(options.mountpoint);
    mkdirSync(options.mountpoint, { recursive: true, mode: 0o700 });
    this.#devices = FuseSession.mount(options);
    return this.#devices;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#devices?.unmount({ force: true });
    this.#devices = undefined;
    await this.#threads[Symbol.asyncDispose]();
  }
}

function unmountAll(mountpoint: string): void {
  for (let guard = 0; mountAt(mountpoint) !== undefined; guard++) {
    if (guard === 100)
      throw new NydusError("busy", `Cannot use "${mountpoint}": something keeps being mounted there`);
    unmount(mountpoint, { detach: true });
  }
}
