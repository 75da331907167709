/**
 * Everything at once for a while: random reads that are compared with the known content, while processes are killed,
 * chunks are evicted, versions change, and other mounts come and go. `scripts/soak` runs it longer.
 */
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { type Output, run } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { killOne } from "./support/readers.ts";
import { openWorkspace, TOOL, type Workspace, workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "erofs-loop", "fuse"] as const;
const SECONDS = Number(process.env.NYDUS_SOAK_SECONDS ?? 10);
const READS = 1500;

let place: Workspace;
let image: string;

beforeAll(async () => {
  place = await openWorkspace();
  const random = new Random(Number(process.env.NYDUS_SOAK_SEED ?? 5));
  await mkdir(place.path("known", "below"), { recursive: true });
  for (let i = 0; i < 40; i++)
    await writeFile(
      place.path("known", i % 2 === 0 ? "" : "below", `f${i}`),
      random.noise(1 + random.below(200_000)),
    );
  await writeFile(place.path("known", "large"), random.noise(6_000_000));
  await writeFile(place.path("known", "prose"), random.prose(3_000_000));
  image = `${(await startEmbeddedRegistry(place)).host}/soak/image:n`;
  await place.tool(["convert", "--chunk-size", "64K", `dir:${place.path("known")}`, image]);
  await copyFile(TOOL, place.path("next"));
});
afterAll(() => place[Symbol.asyncDispose]());

function randomReads(mountpoint: string, seed: string, until: string): Promise<Output> {
  const script = new URL("./support/random-reads.py", import.meta.url).pathname;
  return run("python3", [script, place.path("known"), mountpoint, seed, until], { mayFail: true });
}

test.each(DRIVERS)("random preads and mmap reads through %s give the known content", async (driver) => {
  const own = await workspace();
  for (const cache of ["cold", "cold", "small"]) {
    const flags = cache === "small" ? ["--cache-size", "2M"] : [];
    const mountpoint = await own.mount(image, { driver, cache: own.path(cache), flags });
    expect(await randomReads(mountpoint, `${driver} ${cache}`, `${READS / 3}`)).toEqual({
      code: 0,
      stdout: `${READS / 3}\n`,
      stderr: "",
    });
    await own.umount(mountpoint);
  }
});

/** What happens to a mount while it is read. */
async function disturb(own: Workspace, random: Random): Promise<void> {
  const choice = random.below(5);
  if (choice === 0) return await killOne(own, "server");
  if (choice === 1) return await killOne(own, "controller");
  const words = ["--run-dir", own.path("run")];
  if (choice === 2) {
    const binary = random.pick([TOOL, place.path("next")]);
    await own.tool(["upgrade", "--binary", binary, ...words]);
  } else if (choice === 3) await own.tool(["scrub", ...words]);
  else {
    const other = await openWorkspace();
    await using _other = other;
    const mountpoint = await other.mount(image, { driver: random.pick(DRIVERS), cache: own.path("shared") });
    await run("cat", [`${mountpoint}/prose`]);
    await other.umount(mountpoint);
  }
}

test(`${SECONDS} seconds of kills, evictions, upgrades, scrubs and mounts cost no reader a byte`, {
  timeout: SECONDS * 1000 + 120_000,
}, async () => {
  const until = performance.now() + SECONDS * 1000;
  await Promise.all(
    DRIVERS.map(async (driver, i) => {
      const own = await workspace();
      const random = new Random(i + 1);
      const flags = ["--cache-size", "3M"];
      const mountpoint = await own.mount(image, { driver, flags });
      const stop = own.path("stop");
      const readers = Promise.all([1, 2].map((n) => randomReads(mountpoint, `${driver}${n}`, stop)));
      try {
        do await disturb(own, random);
        while (performance.now() < until);
      } finally {
        await writeFile(stop, "");
      }
      for (const { stdout, ...rest } of await readers) {
        expect(rest).toEqual({ code: 0, stderr: "" });
        expect(Number(stdout)).toBeGreaterThan(0);
      }
      await own.umount(mountpoint);
    }),
  );
});
