/**
 * Cold starts by what is known of them: nothing, what conversion derives, a list that another node left beside the image,
 * and an image that was optimized by that list. Pull and run with nothing cached, each with a containerd and a root of its
 * own, beside overlayfs in the same minutes.
 *
 * @module
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startContainerd } from "../tests/support/containerd.ts";
import { run, startService, waitFor } from "../tests/support/process.ts";
import { dropCaches, seconds, TOOL } from "./bench-place.ts";
import { pullWith } from "./bench-start.ts";
import type { Table } from "./bench-table.ts";

export interface PrefetchPlace {
  readonly directory: string;
  /** The ordinary image, in the registry. */
  readonly plain: string;
  /** Where images may be put, without a tag; the second name goes through the proxy that counts. */
  readonly repository: string;
  readonly counted: {
    readonly host: string;
    readonly requests: readonly unknown[];
    reset(): void;
    blobBytes(): number;
  };
  readonly table: Table;
}

interface ColdStart {
  readonly pull: number;
  readonly run: number;
  /** What the start read, as the node has learnt it; undefined for overlayfs. */
  readonly trace: string | undefined;
}

/** @returns seconds of a cold start by row */
export async function benchPrefetch(
  place: PrefetchPlace,
  round: number,
): Promise<ReadonlyMap<string, number>> {
  const { repository, plain, directory } = place;
  const [none, derived, listed, hot] = ["none", "derived", "listed", "hot"].map(
    (tag) => `${repository}:${tag}`,
  );
  if (none === undefined || derived === undefined || listed === undefined || hot === undefined)
    return new Map();
  if (round === 0) {
    await run(TOOL, ["convert", "--prefetch", "/", plain, none]);
    await run(TOOL, ["convert", plain, derived]);
    await run(TOOL, ["convert", "--prefetch", "/", "--docker-v2-format", plain, listed]);
  }
  const found = new Map<string, number>();
  const measure = async (row: string, image: string, snapshotter = "nydus"): Promise<ColdStart> => {
    const start = await coldStart(place, throughProxy(place, image), snapshotter, `${round}-${found.size}`);
    found.set(row, start.pull + start.run);
    report(place, row, start);
    return start;
  };
  await measure("cold start, overlayfs", plain, "overlayfs");
  const { trace } = await measure("cold start, nothing known", none);
  if (round === 0 && trace !== undefined) {
    const file = join(directory, "learnt.trace");
    await writeFile(file, trace);
    await run(TOOL, ["trace", "push", listed, file]);
    await run(TOOL, ["optimize", "--trace", file, none, hot]);
  }
  await measure("cold start, first run", derived);
  await measure("cold start, learnt list", listed);
  await measure("cold start, optimised image", hot);
  return found;
}

function throughProxy({ repository, counted }: PrefetchPlace, image: string): string {
  const host = repository.slice(0, repository.indexOf("/"));
  return image.replace(host, counted.host);
}

function report({ table, counted }: PrefetchPlace, row: string, { pull, run: cold }: ColdStart): void {
  table.add(row, "pull + run", `${pull.toFixed(2)} + ${cold.toFixed(2)} = ${(pull + cold).toFixed(2)} s`);
  const megabytes = (counted.blobBytes() / 1e6).toFixed(1);
  table.add(row, "fetched", `${megabytes} MB in ${counted.requests.length} requests`);
}

async function coldStart(
  { directory, counted }: PrefetchPlace,
  image: string,
  snapshotter: string,
  name: string,
): Promise<ColdStart> {
  const root = join(directory, `r-${name}`);
  const socket = join(directory, `s-${name}.sock`);
  const log = join(directory, `s-${name}.log`);
  await using containerd = await startContainerd({
    directory: join(directory, `c-${name}`),
    snapshotters: { nydus: socket },
  });
  const addresses = ["--address", socket, "--containerd-address", containerd.address];
  const words = ["snapshotter", "serve", "--root", root, ...addresses, "--run-dir", join(directory, "run")];
  const service = startService(TOOL, words, { log });
  try {
    const serving = async (): Promise<boolean> =>
      (await readFile(log, "utf8").catch(() => "")).includes("serving snapshots");
    await waitFor("the snapshotter", serving, { service });
    await dropCaches();
    counted.reset();
    const pull = await seconds(() => pullWith(containerd, snapshotter, image));
    const cold = await seconds(() =>
      containerd.ctr(["run", "--rm", "--snapshotter", snapshotter, image, `b-${name}`]),
    );
    const trace = snapshotter === "nydus" ? await learnt(join(root, "cache", "traces")) : undefined;
    await containerd.ctr(["image", "rm", "--sync", image]);
    return { pull, run: cold, trace };
  } finally {
    await service.stop();
  }
}

/** It is written when the last container is gone. */
async function learnt(directory: string): Promise<string> {
  let name: string | undefined;
  await waitFor("the learnt list", async () => {
    name = (await readdir(directory).catch(() => [])).find((file) => file.endsWith(".json"));
    return name !== undefined;
  });
  return await readFile(join(directory, name ?? ""), "utf8");
}

/** Each row beside overlayfs, by the shortest of all rounds. */
export function reportRatios(table: Table, rounds: readonly ReadonlyMap<string, number>[]): void {
  const least = (row: string): number =>
    Math.min(...rounds.map((round) => round.get(row) ?? Number.POSITIVE_INFINITY));
  const eager = least("cold start, overlayfs");
  for (const row of rounds[0]?.keys() ?? [])
    if (row !== "cold start, overlayfs") table.add(row, "to overlayfs", (least(row) / eager).toFixed(3));
}
