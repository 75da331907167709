/**
 * What the status endpoint shows, and where it gets it from: a process that mounts, or the snapshotter.
 *
 * @module
 */
import type { MountStatus } from "../mount/mount-request.ts";

/** A snapshot as containerd knows it. */
export interface SnapshotStatus {
  readonly namespace: string;
  readonly name: string;
  readonly parent: string;
  readonly kind: "active" | "committed" | "view";
  /** "plain", "nydus-blob", "nydus-bootstrap", "nydus-container". */
  readonly role: string;
  readonly createdAt: string;
}

/** Calls of one kind that the snapshotter answered. */
export interface OperationStatus {
  readonly operation: string;
  readonly count: number;
  readonly errors: number;
  readonly seconds: number;
}

export interface StatusSource {
  mounts(): Promise<readonly MountStatus[]>;
  snapshots?(): Promise<readonly SnapshotStatus[]>;
  operations?(): readonly OperationStatus[];
}
