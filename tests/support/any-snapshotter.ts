/**
 * A snapshotter as the contract suite sees it, however it is reached.
 *
 * @module
 */
import type { Mount, SnapshotKind } from "../../lib/containerd/snapshots.ts";

export interface Info {
  readonly name: string;
  readonly parent: string;
  readonly kind: SnapshotKind;
  readonly labels: Readonly<Record<string, string>>;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly updated: number;
}

export type Labels = Readonly<Record<string, string>>;

/** Failures carry one of `code` as in `NydusError`. */
export interface AnySnapshotter {
  prepare(key: string, parent: string, labels: Labels): Promise<readonly Mount[]>;
  view(key: string, parent: string, labels: Labels): Promise<readonly Mount[]>;
  mounts(key: string): Promise<readonly Mount[]>;
  commit(name: string, key: string, labels: Labels): Promise<void>;
  remove(key: string): Promise<void>;
  stat(key: string): Promise<Info>;
  update(name: string, labels: Labels, paths: readonly string[]): Promise<Info>;
  list(filters: readonly string[]): Promise<readonly Info[]>;
  usage(key: string): Promise<{ readonly size: number; readonly inodes: number }>;
  /** Whether it could be asked for: containerd 1.6 keeps the call to its own collector. */
  cleanup(): Promise<boolean>;
  close(): Promise<void>;
}

/** Without a reference, containerd's collector would take a snapshot at once. */
export const KEEP: Labels = { "containerd.io/gc.root": "contract" };
