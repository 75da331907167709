/** Everything that the page shows, asked for once. @module */

import type { LoggedEvent } from "../base/event-log.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
import type { MountStatus } from "../mount/mount-request.ts";
import type { SnapshotStatus, StatusSource } from "./source.ts";

export interface Overview {
  readonly mounts: readonly MountStatus[];
  readonly caches: readonly CacheStatus[];
  readonly snapshots: readonly SnapshotStatus[];
  readonly events: readonly LoggedEvent[];
}

export async function overviewOf(source: StatusSource): Promise<Overview> {
  const [mounts, caches, snapshots, events] = await Promise.all([
    source.mounts(),
    source.caches?.() ?? [],
    source.snapshots?.() ?? [],
    source.events?.() ?? [],
  ]);
  return { mounts, caches, snapshots, events };
}
