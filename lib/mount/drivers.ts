/**
 * How an opened image becomes a mounted one: kernel EROFS on blob files that a FUSE directory serves, or the whole file
 * system over FUSE. `auto` takes the first that works.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isCode, NydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { CheckedBootstrap } from "./checked-bootstrap.ts";
import { mountErofs, unmount } from "./erofs.ts";
import { erofsImage } from "./erofs-image.ts";
import { FuseSession, type FuseSessionOptions } from "./fuse-session.ts";
import type { ImageBlobs, ServedBlob } from "./image-blobs.ts";
import type { MountRequest } from "./mount-request.ts";
import { mountAt } from "./mount-table.ts";

/** Threads that answer one FUSE file system. Two keep both of a small node's cores reading. */
const THREADS = 2;

/** What a driver made of an image. */
export interface DrivenImage {
  readonly driver: "erofs" | "fuse";
  readonly driverReason: string;
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
  #devices: FuseSession | undefined;

  constructor(options: DriversOptions) {
    this.#options = options;
  }

  /** The directory of blob files, while there is one. */
  get devices(): FuseSession | undefined {
    return this.#devices;
  }

  async mount(request: MountRequest, image: DrivableImage, directory: string): Promise<DrivenImage> {
    if (request.driver === "fuse") return this.#mountFuse(request, image.blobs, directory, "asked for");
    try {
      await this.#mountErofs(request, image, directory);
      const reason = request.driver === "erofs" ? "asked for" : "the kernel mounts EROFS from files";
      return { driver: "erofs", driverReason: reason, session: undefined };
    } catch (error) {
      if (request.driver === "erofs" || !isCode(error, "unsupported")) throw error;
      this.#options.log.warn(error.message, { driver: "fuse" });
      return this.#mountFuse(request, image.blobs, directory, error.message);
    }
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

  async #mountErofs(
    request: MountRequest,
    { checked, blobs }: DrivableImage,
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

  #mountFuse(request: MountRequest, blobs: ImageBlobs, directory: string, driverReason: string): DrivenImage {
    const session = FuseSession.mount(this.#imageOptions(this.#sessionName(), request, blobs, directory));
    return { driver: "fuse", driverReason, session };
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
      threads: THREADS,
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
      threads: THREADS,
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
  }
}

function unmountAll(mountpoint: string): void {
  for (let guard = 0; mountAt(mountpoint) !== undefined; guard++) {
    if (guard === 100)
      throw new NydusError("busy", `Cannot use "${mountpoint}": something keeps being mounted there`);
    unmount(mountpoint, { detach: true });
  }
}
