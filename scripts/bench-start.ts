/**
 * Pull and run with containerd, nothing cached: beside the same image on containerd's overlayfs snapshotter.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Containerd, startContainerd } from "../tests/support/containerd.ts";
import { startService, waitFor } from "../tests/support/process.ts";
import { dropCaches, memoryText, type Place, seconds, shell, TOOL, tool, usageOf } from "./bench-place.ts";

/** Ordinary images as everybody pulls them, by containerd's own client; ours by ours. */
export function pullWith(containerd: Containerd, snapshotter: string, image: string): Promise<unknown> {
  if (snapshotter === "overlayfs")
    return containerd.ctr(["image", "pull", "--plain-http", "--snapshotter", snapshotter, image]);
  return tool(["pull", "--containerd-address", containerd.address, "--snapshotter", snapshotter, image]);
}

/** @returns seconds of pull and run, nothing cached */
async function benchOne(
  place: Place,
  containerd: Containerd,
  snapshotter: string,
  image: string,
): Promise<number> {
  const { table, proxy } = place;
  const start = (id: string): Promise<unknown> =>
    containerd.ctr(["run", "--rm", "--snapshotter", snapshotter, image, id]);
  await dropCaches();
  proxy.reset();
  const pull = await seconds(() => pullWith(containerd, snapshotter, image));
  const cold = await seconds(() => start(`${snapshotter}-cold`));
  const total = `${pull.toFixed(2)} + ${cold.toFixed(2)} = ${(pull + cold).toFixed(2)} s`;
  table.add(`cold start, ${snapshotter}`, "pull + run", total);
  const fetched = `${(proxy.blobBytes() / 1e6).toFixed(1)} MB in ${proxy.requests.length} requests`;
  table.add(`cold start, ${snapshotter}`, "fetched", fetched);
  const warm = await seconds(() => start(`${snapshotter}-warm`));
  table.add(`warm start, ${snapshotter}`, "run again", `${warm.toFixed(2)} s`);
  return pull + cold;
}

async function benchRound(place: Place, round: number): Promise<void> {
  const { directory, table, proxy, plain, lazy } = place;
  const socket = join(directory, "s.sock");
  const log = join(directory, `snapshotter-${round}.log`);
  const run = join(directory, `start-${round}`);
  await using containerd = await startContainerd({
    directory: join(directory, `c-${round}`),
    snapshotters: { nydus: socket },
  });
  const words = [
    ...["snapshotter", "serve", "--root", join(directory, `root-${round}`), "--address", socket],
    ...["--containerd-address", containerd.address, "--run-dir", run],
  ];
  await using snapshotter = startService(TOOL, words, { log });
  const serving = async (): Promise<boolean> =>
    (await readFile(log, "utf8").catch(() => "")).includes("serving snapshots");
  await waitFor("the snapshotter", serving, { service: snapshotter });
  const through = `${proxy.host}/${plain.slice(plain.indexOf("/") + 1)}`;
  const eager = await benchOne(place, containerd, "overlayfs", through);
  const ours = await benchOne(place, containerd, "nydus", lazy);
  table.add("cold start", "nydus / overlayfs", (ours / eager).toFixed(3));
  const control = await usageOf(`--address ${socket}`);
  const data = await usageOf(`mount-server --run-dir ${run}`);
  for (const [name, usage] of Object.entries({ snapshotter: control, "mount process": data }))
    table.add("after both starts", name, `${memoryText(usage)}, ${usage.cpu.toFixed(2)} CPU s`);
  await containerd.ctr(["image", "rm", "--sync", lazy, through]);
}

export async function benchStart(place: Place): Promise<void> {
  for (let round = 0; round < place.rounds; round++) await benchRound(place, round);
  await shell(`rm -rf ${place.directory}/root-*`);
}
