/**
 * What is below a container in a user namespace, seen through mounts that map owners: one of the directory of snapshots
 * for all plain layers, one of the Nydus image.
 *
 * @module
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { unmount } from "../mount/erofs.ts";
import { type IdMapping, mountMapped } from "../mount/mapped-mount.ts";
import { mountAt } from "../mount/mount-table.ts";
import type { SnapshotDirectories } from "./directories.ts";

export type { IdMapping };

export interface Lowers {
  /** Directories of plain layers, top first. */
  readonly layers: readonly string[];
  /** Mount point of the image below them. */
  readonly image?: string;
}

/** Asking again changes nothing, unless what is below was mounted anew. @throws unsupported */
export async function mapLowers(
  directories: SnapshotDirectories,
  id: number,
  { layers, image }: Lowers,
  mapping: IdMapping,
): Promise<Lowers> {
  const mappedImage =
    image === undefined
      ? {}
      : { image: await view(image, await directories.createMapped(id, "image"), mapping) };
  if (layers.length === 0) return { layers, ...mappedImage };
  const all = await view(directories.snapshots, await directories.createMapped(id, "layers"), mapping);
  return { layers: layers.map((files) => directories.through(all, files)), ...mappedImage };
}

async function view(source: string, target: string, mapping: IdMapping): Promise<string> {
  if (mountAt(target) !== undefined) {
    // A view of a mount that was replaced would still show the old one.
    if (statSync(target).dev === statSync(source).dev) return target;
    unmount(target, { detach: true });
  }
  await mountMapped(source, target, mapping);
  return target;
}

/** @param snapshots the directory of snapshots */
export function unmapLowers(snapshots: string, id: number): void {
  for (const name of ["image", "layers"])
    unmount(join(snapshots, String(id), "mapped", name), { detach: true });
}

/** Who root in the container is on the host: the mapping that starts at 0 ("0:100000:65536"). */
export function mappedRoot(mapping: Partial<IdMapping>): { uid: number; gid: number } | undefined {
  const hostId = (mapped: string | undefined): number | undefined => {
    const found = (mapped ?? "").split(",").map((part) => /^0:(\d+):[1-9]\d*$/.exec(part)?.[1]);
    const id = Number(found.find((text) => text !== undefined));
    return Number.isInteger(id) ? id : undefined;
  };
  const [uid, gid] = [hostId(mapping.uidMapping), hostId(mapping.gidMapping)];
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}
