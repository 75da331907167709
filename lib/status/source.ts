/**
 * What the status endpoint shows, and where it gets it from: a process that mounts, or the snapshotter.
 *
 * @module
 */
import type { LoggedEvent } from "../base/event-log.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
import type { BrokenMount } from "../mount/broken-mounts.ts";
import type { ImageReads } from "../mount/image-mounts.ts";
import type { MountStatus } from "../mount/mount-request.ts";
import type { OperationStatus } from "./operations.ts";

/** A snapshot as containerd knows it. */
export interface SnapshotStatus {
  readonly namespace: string;
  readonly name: string;
  readonly parent: string;
  readonly kind: "active" | "committed" | "view";
  /** "plain", "nydus-data", "nydus-bootstrap". */
  readonly layer: string;
  /** Of a bootstrap layer: its image, once known. */
  readonly reference?: string;
  /** Of a bootstrap layer: why its image, which containers need, is not mounted. It is tried again all the time. */
  readonly failure?: { readonly error: string; readonly since: string };
  /** Directory of its files, for whoever looks at the node. */
  readonly id: number;
  readonly createdAt: string;
}

export interface StatusSource {
  mounts(): Promise<readonly MountStatus[]>;
  /** Of dead processes: their readers get errors until they let go. */
  broken?(): Promise<readonly BrokenMount[]>;
  caches?(): Promise<readonly CacheStatus[]>;
  snapshots?(): Promise<readonly SnapshotStatus[]>;
  operations?(): readonly OperationStatus[];
  /** What was read of a mounted image. @throws not_found */
  reads?(id: string): Promise<ImageReads>;
  /** What the processes have told in their logs lately. */
  events?(): Promise<readonly LoggedEvent[]>;
}
