/** Everything that the page shows, asked for once. @module */

import type { LoggedEvent } from "../base/event-log.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
import type { BrokenMount } from "../mount/broken-mounts.ts";
import type { MountStatus } from "../mount/mount-request.ts";
import type { SnapshotStatus, StatusSource } from "./source.ts";

export interface Overview {
  readonly mounts: readonly MountStatus[];
  readonly broken: readonly BrokenMount[];
  readonly caches: readonly CacheStatus[];
  readonly snapshots: readonly SnapshotStatus[];
  readonly events: readonly LoggedEvent[];
}

export async function overviewOf(source: StatusSource): Promise<Overview> {
  const [mounts, broken, caches, snapshots, events] = await Promise.all([
    source.mounts(),
    source.broken?.() ?? [],
    source.caches?.() ?? [],
    source.snapshots?.() ?? [],
    source.events?.() ?? [],
  ]);
  return { mounts, broken, caches, snapshots, events };
}
