/**
 * The mounts that containerd makes to see a snapshot. One pure function, so that every case is in one table.
 *
 * | snapshot | on | mount |
 * |---|---|---|
 * | active | nothing | bind of its own directory |
 * | view | nothing, or one layer | read-only bind |
 * | active | layers | overlay with upper and work directory |
 * | view | several layers | overlay of the lower directories only |
 * | active | a Nydus image | overlay over the image's mount point |
 * | view | a Nydus image | overlay of the mount point and the view's own, empty directory: one lower is not enough |
 *
 * In a user namespace the lower directories are seen through mounts that map owners (`mapped-lowers.ts`). Where the
 * kernel has none, options say the mapping: containerd 2 makes such mounts itself, and takes the options away.
 *
 * containerd shortens long lists of lower directories itself when it mounts.
 *
 * @module
 */
import type { Mount } from "../containerd/snapshots.ts";

export interface MountPlan {
  readonly kind: "active" | "view";
  /** Its own directories. */
  readonly files: string;
  readonly work: string;
  /** Directories of plain layers below it, top first, down to the image if there is one. */
  readonly layers: readonly string[];
  /** Mount point of the Nydus image below. */
  readonly image?: string;
  /** Skip syncing: the container's changes need not survive a crash. */
  readonly volatile?: boolean;
  /** "container:host:count": consumed by containerd, which maps the layers' owners. */
  readonly uidMapping?: string;
  readonly gidMapping?: string;
}

export function mountsOf(plan: MountPlan): readonly Mount[] {
  const lowers = plan.image === undefined ? plan.layers : [...plan.layers, plan.image];
  const [only] = lowers;
  if (only === undefined) return [bind(plan.files, plan.kind === "active" ? "rw" : "ro", plan)];
  if (plan.kind === "active") return [overlay([...writable(plan), `lowerdir=${lowers.join(":")}`])];
  if (lowers.length === 1 && plan.image === undefined) return [bind(only, "ro", plan)];
  const enough = lowers.length === 1 ? [...lowers, plan.files] : lowers;
  return [overlay([...mappings(plan), `lowerdir=${enough.join(":")}`])];
}

function bind(source: string, access: "rw" | "ro", plan: MountPlan): Mount {
  return { type: "bind", source, options: [...mappings(plan), access, "rbind"] };
}

function overlay(options: readonly string[]): Mount {
  return { type: "overlay", source: "overlay", options };
}

function writable(plan: MountPlan): readonly string[] {
  const directories = [`workdir=${plan.work}`, `upperdir=${plan.files}`];
  const volatile = plan.volatile === true ? ["volatile"] : [];
  const first = plan.image === undefined ? [...directories, ...volatile] : [...volatile, ...directories];
  return [...first, ...mappings(plan)];
}

function mappings({ uidMapping, gidMapping }: MountPlan): readonly string[] {
  return [
    ...(uidMapping === undefined ? [] : [`uidmap=${uidMapping}`]),
    ...(gidMapping === undefined ? [] : [`gidmap=${gidMapping}`]),
  ];
}
