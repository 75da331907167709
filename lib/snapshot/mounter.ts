/**
 * What the snapshotter needs of whatever mounts images. `lib/mount` provides it; tests provide a small one.
 *
 * @module
 */
import type { NeededCache } from "../mount/cache-garbage.ts";
import type { ImageMountRequest } from "../mount/client.ts";

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
  mount(request: ImageMountRequest): Promise<MountedImage>;
  /** An image is on its way: be ready to check and mount it. */
  warm(): Promise<void>;
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
