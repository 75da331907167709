/**
 * Mounts whose file system nobody kept when the processes behind it died: what is read there fails, for as long as
 * somebody has it mounted. A new mount of the same image does not heal them: containers hold on to the old one.
 *
 * @module
 */
import { uniqueMountId } from "../../ffi/libc.ts";
import { type MountEntry, mountAt, readMountTable } from "./mount-table.ts";
import type { LostMount, SavedMount } from "./saved-state.ts";

/** What people see of it. */
export interface BrokenMount {
  readonly id: string;
  readonly reference: string;
  readonly since: string;
  /** Where its files are still mounted: overlays of containers, and copies. */
  readonly mountpoints: readonly string[];
}

/** @param saved how it was before */
export function lostMount({ request, imageDirectory, mountId: was }: SavedMount): LostMount {
  const table = readMountTable();
  const own = table.findLast(({ mountpoint }) => mountpoint === imageDirectory);
  const isOwn = own !== undefined && (was === undefined || mountId(own) === was);
  const mounts = table.filter((entry) => (isOwn && isCopy(entry, own)) || stands(entry, imageDirectory));
  return {
    id: request.id,
    reference: request.source.location,
    since: new Date().toISOString(),
    mounts: mounts.map((entry) => ({ id: mountId(entry), mountpoint: entry.mountpoint })),
  };
}

/** Of the topmost mount at a place. */
export function mountIdAt(mountpoint: string): number | undefined {
  const there = mountAt(mountpoint);
  return there === undefined ? undefined : mountId(there);
}

/** Older kernels have only numbers that are used again: a mount may then be taken for one that was there before. */
function mountId({ id, mountpoint }: MountEntry): number {
  return uniqueMountId(mountpoint) ?? id;
}

function isCopy(entry: MountEntry, own: MountEntry): boolean {
  return entry.device === own.device && entry.type === own.type;
}

/** An overlay with the image as a lower directory. */
function stands(entry: MountEntry, imageDirectory: string): boolean {
  if (entry.type !== "overlay") return false;
  return entry.options
    .split(",")
    .filter((option) => option.startsWith("lowerdir"))
    .some((option) =>
      option
        .replace(/^lowerdir\+?=/, "")
        .split(":")
        .includes(imageDirectory),
    );
}

/** Those that are still there. */
export function stillBroken(lost: readonly LostMount[]): BrokenMount[] {
  return lost.flatMap(({ id, reference, since, mounts }) => {
    const left = mounts.filter((mount) => mountIdAt(mount.mountpoint) === mount.id);
    const mountpoints = left.map(({ mountpoint }) => mountpoint);
    return mountpoints.length === 0 ? [] : [{ id, reference, since, mountpoints }];
  });
}
