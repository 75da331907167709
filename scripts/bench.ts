/**
 * The benchmark behind `scripts/bench`: what a user of the program waits for, each beside its alternative in the same
 * run, since seconds drift between runs and ratios do not.
 *
 * @module
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startCountingProxy } from "../tests/support/counting-proxy.ts";
import { startDockerRegistry } from "../tests/support/docker-registry.ts";
import { umountAllUnder } from "../tests/support/mounts.ts";
import { run } from "../tests/support/process.ts";
import { benchConvert } from "./bench-convert.ts";
import { benchFiles } from "./bench-files.ts";
import { benchKinds } from "./bench-kinds.ts";
import { benchLinks } from "./bench-links.ts";
import type { Place } from "./bench-place.ts";
import { benchPrefetch, reportRatios } from "./bench-prefetch.ts";
import { benchReading } from "./bench-reading.ts";
import { benchSnapshotter } from "./bench-snapshotter.ts";
import { benchStart } from "./bench-start.ts";
import { Table } from "./bench-table.ts";

/** In this order; conversion makes what the others read, so it always runs. */
const PARTS: Readonly<Record<string, (place: Place) => Promise<void>>> = {
  start: benchStart,
  reading: benchReading,
  kinds: ({ plain, registry, directory, table }) =>
    benchKinds({ source: plain, host: registry.host, directory, table }),
  files: benchFiles,
  links: benchLinks,
  lists: benchLists,
  snapshotter: benchSnapshotter,
};

async function benchLists({ directory, plain, registry, proxy, table, rounds }: Place): Promise<void> {
  const place = { directory, plain, repository: `${registry.host}/starts`, counted: proxy, table };
  const found: ReadonlyMap<string, number>[] = [];
  for (let round = 0; round < rounds; round++) found.push(await benchPrefetch(place, round));
  reportRatios(table, found);
}

function chosen(only: string | undefined): readonly string[] {
  const names = only?.split(",") ?? Object.keys(PARTS);
  const unknown = names.find((name) => PARTS[name] === undefined);
  if (unknown === undefined) return names;
  throw new Error(`Cannot measure "${unknown}": the parts are ${Object.keys(PARTS).join(", ")}`);
}

async function measure(image: string, rounds: number, parts: readonly string[]): Promise<Table> {
  const directory = await mkdtemp(join(tmpdir(), "nb-"));
  const table = new Table();
  try {
    await using registry = await startDockerRegistry(join(directory, "registry"));
    await using proxy = await startCountingProxy(registry.host);
    const plain = `${registry.host}/bench:oci`;
    await run("skopeo", ["copy", "--dest-tls-verify=false", image, `docker://${plain}`]);
    const lazy = `${proxy.host}/bench:nydus`;
    const place = { directory, registry, proxy, image, plain, lazy, rounds, table };
    await benchConvert(place);
    for (const part of parts) await PARTS[part]?.(place);
  } finally {
    await umountAllUnder(directory);
    await rm(directory, { recursive: true, force: true });
  }
  return table;
}

const { values } = parseArgs({
  options: {
    image: { type: "string", default: "" },
    rounds: { type: "string", default: "2" },
    only: { type: "string" },
  },
});
const table = await measure(values.image, Number(values.rounds), chosen(values.only));
process.stdout.write(table.toString());
process.exit(0);
