/** The images of a node: those that are mounted, and those that a snapshotter knows besides. @module */

import type { MountStatus } from "../../mount/mount-request.ts";
import type { Overview } from "../overview.ts";
import type { SnapshotStatus } from "../source.ts";

export interface ImageView {
  readonly reference: string;
  /** Undefined while it is not mounted. */
  readonly mount?: MountStatus;
  readonly failure?: NonNullable<SnapshotStatus["failure"]>;
}

/** Trouble first, then what is mounted, then the rest. */
export function imagesOf({ mounts, snapshots }: Overview): readonly ImageView[] {
  const mounted = new Set(mounts.map(({ id }) => id));
  const idle = snapshots
    .filter(
      ({ layer, kind, id }) => layer === "nydus-bootstrap" && kind === "committed" && !mounted.has(`${id}`),
    )
    .map(
      ({ reference, name, failure }): ImageView => ({
        reference: reference ?? name,
        ...(failure === undefined ? {} : { failure }),
      }),
    );
  const views = [...mounts.map((mount): ImageView => ({ reference: mount.reference, mount })), ...idle];
  return views.toSorted((a, b) => rank(a) - rank(b) || (a.reference < b.reference ? -1 : 1));
}

function rank({ mount, failure }: ImageView): number {
  if (failure !== undefined || mount?.state === "broken") return 0;
  return mount === undefined ? 2 : 1;
}
