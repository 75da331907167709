/**
 * A `Mounter` for tests of the snapshotter: it mounts nothing of Nydus, but makes real mounts. Each "image" is a tmpfs
 * with the bootstrap's bytes in a file, so tests see what was mounted where.
 *
 * @module
 */

import { chmod, copyFile } from "node:fs/promises";
import { NydusError } from "../../lib/base/error.ts";
import type { NeededCache } from "../../lib/mount/cache-garbage.ts";
import type { ImageMountRequest } from "../../lib/mount/client.ts";
import type { MountedImage, Mounter } from "../../lib/snapshot/mounter.ts";
import { mountsUnder } from "./mounts.ts";
import { run } from "./process.ts";

export class TestMounter implements Mounter {
  readonly requests: ImageMountRequest[] = [];
  /** Bootstraps that were announced. */
  readonly checked: string[] = [];
  /** How often it was told that an image comes. */
  warmed = 0;
  /** What collections were to keep, sorted. */
  readonly collected: { readonly blobs: readonly string[]; readonly bootstraps: readonly string[] }[] = [];
  /** References that nobody can mount, with the error for them. */
  readonly broken = new Map<string, NydusError>();
  /** Bytes in the cache by blob id. */
  readonly cached = new Map<string, number>();
  readonly #mounted = new Map<string, MountedImage>();

  async mount(request: ImageMountRequest): Promise<MountedImage> {
    this.requests.push(request);
    const error = this.broken.get(request.reference);
    if (error !== undefined) throw error;
    const { id, mountpoint, reference } = request;
    const known = (await this.list()).find((image) => image.id === id);
    if (known !== undefined) return known;
    await run("mount", ["-t", "tmpfs", "-o", "size=1m,mode=0751", "nydus-test", mountpoint]);
    await copyFile(request.bootstrap, `${mountpoint}/bootstrap`);
    await chmod(`${mountpoint}/bootstrap`, 0o644);
    await run("mount", ["-o", "remount,ro", mountpoint]);
    const image: MountedImage = {
      id,
      mountpoint,
      reference,
      driver: "test",
      state: "mounted",
      blobs: ["b".repeat(64)],
      imageBytes: 1000,
      fetchedBytes: 10,
      requests: 1,
    };
    this.#mounted.set(id, image);
    return image;
  }

  async warm(): Promise<void> {
    this.warmed++;
  }

  async check(bootstrap: string): Promise<void> {
    this.checked.push(bootstrap);
  }

  async umount(id: string): Promise<void> {
    const image = this.#mounted.get(id);
    if (image === undefined) return;
    this.#mounted.delete(id);
    if (!isMounted(image)) return;
    const { code, stderr } = await run("umount", [image.mountpoint], { mayFail: true });
    if (code === 0) return;
    this.#mounted.set(id, image);
    throw new NydusError("busy", `Cannot unmount "${image.mountpoint}": ${stderr.trim()}`);
  }

  /** As a serving process that was killed: what it mounted stays, and nobody knows it. */
  forget(): void {
    this.#mounted.clear();
  }

  async list(): Promise<readonly MountedImage[]> {
    return [...this.#mounted.values()].map((image) =>
      isMounted(image) ? image : { ...image, state: "broken" },
    );
  }

  async cacheUsage(blobId: string): Promise<number> {
    return this.cached.get(blobId) ?? 0;
  }

  async collect({ blobs, bootstraps }: NeededCache): Promise<void> {
    this.collected.push({ blobs: [...blobs].sort(), bootstraps: [...bootstraps].sort() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of [...this.#mounted.keys()]) await this.umount(id);
  }
}

function isMounted({ mountpoint }: MountedImage): boolean {
  return mountsUnder(mountpoint).length > 0;
}
