/**
 * What containerd waits for: Prepare, Mounts and Commit under sixteen clients at once, through containerd, beside its own
 * overlayfs snapshotter. The two take turns, since seconds drift.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ContainerdClient } from "../lib/containerd/client.ts";
import { SnapshotsClient } from "../lib/containerd/snapshots.ts";
import { startContainerd } from "../tests/support/containerd.ts";
import { startService, waitFor } from "../tests/support/process.ts";
import { type Place, quantile, TOOL } from "./bench-place.ts";
import type { Table } from "./bench-table.ts";

const CLIENTS = 16;
/** Snapshots that each client makes in a round. */
const EACH = 20;
/** Otherwise containerd's collector would take them while they are measured. */
const labels = { "containerd.io/gc.root": "bench" };

type Step = "Prepare" | "Mounts" | "Commit";

export async function benchSnapshotter({ directory, table, rounds }: Place): Promise<void> {
  const address = join(directory, "s.sock");
  await using containerd = await startContainerd({
    directory: join(directory, "c"),
    snapshotters: { nydus: address },
  });
  await using service = startService(
    TOOL,
    [
      ...["snapshotter", "serve", "--root", join(directory, "snapshots"), "--address", address],
      ...["--containerd-address", containerd.address, "--run-dir", join(directory, "run")],
    ],
    { log: join(directory, "snapshotter.log") },
  );
  await waitFor("the snapshotter", async () => existsSync(address), { service });
  for (let round = 0; round < rounds; round++)
    for (const name of ["overlayfs", "nydus"])
      report(table, name, await measure(containerd.address, name, round));
}

/** Milliseconds of every call, by step. */
async function measure(address: string, name: string, round: number): Promise<Record<Step, number[]>> {
  const times: Record<Step, number[]> = { Prepare: [], Mounts: [], Commit: [] };
  await using first = new ContainerdClient({ address, namespace: `bench-${name}-${round}` });
  const parent = await layers(new SnapshotsClient(first, name), 3);
  const client = async (i: number): Promise<void> => {
    await using connection = new ContainerdClient({ address, namespace: first.namespace });
    const snapshots = new SnapshotsClient(connection, name);
    const timed = async <T>(step: Step, work: () => Promise<T>): Promise<T> => {
      const start = performance.now();
      const result = await work();
      times[step].push(performance.now() - start);
      return result;
    };
    for (let n = 0; n < EACH; n++) {
      const key = `${i}-${n}`;
      await timed("Prepare", () => snapshots.prepare(key, parent, { labels }));
      await timed("Mounts", () => snapshots.mounts(key));
      await timed("Commit", () => snapshots.commit(`committed-${key}`, key, { labels }));
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)));
  return times;
}

async function layers(snapshots: SnapshotsClient, count: number): Promise<string> {
  let parent = "";
  for (let i = 0; i < count; i++) {
    await snapshots.prepare(`layer-${i}-active`, parent, { labels });
    await snapshots.commit(`layer-${i}`, `layer-${i}-active`, { labels });
    parent = `layer-${i}`;
  }
  return parent;
}

function report(table: Table, name: string, times: Record<Step, number[]>): void {
  for (const [step, all] of Object.entries(times)) {
    const at = (share: number): string => quantile(all, share).toFixed(1);
    table.add(
      `${step}, ${CLIENTS} clients (ms: median / 95 % / 99 %)`,
      name,
      `${at(0.5)} / ${at(0.95)} / ${at(0.99)}`,
    );
  }
}
