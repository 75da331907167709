/**
 * A start from an image that was not downloaded, over slow links: a first run of an image about whose start nothing is
 * known, one that follows what conversion derived, one that follows the list that another run learnt, and an optimised
 * image.
 *
 * @module
 */
import { join } from "node:path";
import { run } from "../tests/support/process.ts";
import { dropCaches, mountImage, type Place, seconds, shell, tool } from "./bench-place.ts";

const MBIT = 1e6 / 8;
const LINKS = [1000, 200, 20].flatMap((mbit) =>
  [0, 30].map((ms) => ({ name: `${mbit} Mbit/s, ${ms} ms`, bytesPerSecond: mbit * MBIT, roundTripMs: ms })),
);
/** The command of the benchmark image. */
const PROGRAM = ["python3", "/app/main.py"];

async function start(place: Place, reference: string, flags: readonly string[] = []): Promise<string> {
  const { directory, proxy } = place;
  const cache = join(directory, "cache-link");
  await dropCaches();
  proxy.reset();
  let mounted: Awaited<ReturnType<typeof mountImage>> | undefined;
  const taken = await seconds(async () => {
    mounted = await mountImage(place, reference, cache, flags);
    await run("chroot", [mounted.directory, ...PROGRAM]);
  });
  const fetched = `${(proxy.blobBytes() / 1e6).toFixed(1)} MB, ${proxy.requests.length} requests`;
  await mounted?.umount();
  await shell(`rm -rf ${cache}`);
  return `${taken.toFixed(2)} s (${fetched})`;
}

export async function benchLinks(place: Place): Promise<void> {
  const { directory, lazy, proxy, table } = place;
  const list = join(directory, "start.list");
  const optimized = `${lazy}-optimized`;
  const unknown = `${lazy}-unknown`;
  await tool(["convert", "--prefetch", "/", place.plain, unknown]);
  await start(place, lazy, ["--record", list]);
  await tool(["optimize", "--trace", list, lazy, optimized]);
  for (const { name, ...link } of LINKS) {
    proxy.link = link;
    for (let round = 0; round < place.rounds; round++) {
      table.add(`start over ${name}`, "nothing known", await start(place, unknown));
      table.add(`start over ${name}`, "first run", await start(place, lazy));
      table.add(`start over ${name}`, "learnt list", await start(place, lazy, ["--trace", list]));
      table.add(`start over ${name}`, "optimised image", await start(place, optimized));
    }
  }
  proxy.link = {};
}
