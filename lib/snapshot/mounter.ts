/**
 * What the snapshotter needs of whatever mounts images. `lib/mount` provides it; tests provide a small one.
 *
 * @module
 */
import type { NeededCache } from "../mount/cache-garbage.ts";

export interface SnapshotMountRequest {
  /** The snapshot's id; mounting the same id again is a no-op when it is already mounted. */
  readonly id: string;
  /** Absolute path of the unpacked bootstrap (image/image.boot). */
  readonly bootstrap: string;
  /** What the image is, unless it is a Nydus image. */
  readonly format?: string;
  readonly mountpoint: string;
  /** The image reference as containerd knows it: the blobs are in its repository. */
  readonly reference: string;
  /** containerd's namespace that has the image: its content store may have blobs of it. */
  readonly namespace?: string;
}

export interface MountedImage {
  readonly id: string;
  readonly mountpoint: string;
  readonly reference: string;
  readonly driver: string;
  readonly state: "mounted" | "broken";
  /** Blob ids (hex), in device order. */
  readonly blobs: readonly string[];
  /** Stored (compressed) bytes of all blobs, and how many of them were fetched. */
  readonly imageBytes: number;
  readonly fetchedBytes: number;
  readonly requests: number;
}

export interface Mounter extends AsyncDisposable {
  mount(request: SnapshotMountRequest): Promise<MountedImage>;
  /** Do ahead what mounting this bootstrap will need. @throws when it cannot be mounted */
  check(bootstrap: string): Promise<void>;
  /** Unmounting what is not mounted is a no-op. */
  umount(id: string): Promise<void>;
  list(): Promise<readonly MountedImage[]>;
  /** Bytes on disk that the cache holds of a blob (hex id); 0 when it has none. */
  cacheUsage(blobId: string): Promise<number>;
  /** Forget, after a while, what is cached of images that are not needed any more. */
  collect(needed: NeededCache): Promise<void>;
}
