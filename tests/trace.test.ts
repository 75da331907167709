/** What one run of an image read is fetched ahead by the next one: given as a file, or learnt by the cache. */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { fileNode } from "./support/model.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const DRIVERS = ["erofs", "fuse"] as const;
/** Read in this order, with megabytes that nobody reads between them. */
const USED = ["f/07", "f/01", "f/04"];

let place: Workspace;
let proxy: CountingProxy;
let image: string;

beforeAll(async () => {
  place = await openWorkspace();
  const random = new Random(3);
  const files = Array.from({ length: 9 }, (_, i) => [`f/0${i}`, fileNode(random.noise(2_000_000))] as const);
  await writeLayout(place.path("source"), [tarOf(files.map(([path, entry]) => ({ path, ...entry })))]);
  const registry = await startEmbeddedRegistry(place);
  proxy = startCountingProxy(registry.host);
  image = `${proxy.host}/traced/image:n`;
  await place.tool(["convert", "--chunk-size", "64K", `oci:${place.path("source")}:t`, image]);
});
afterAll(async () => {
  await place[Symbol.asyncDispose]();
  await proxy?.[Symbol.asyncDispose]();
});

async function readUsed(mountpoint: string): Promise<string> {
  const { stdout } = await run("sha256sum", USED, { cwd: mountpoint });
  return stdout;
}

/**
 * The files are read while the source answers nothing at all. (Counting requests would not do: the kernel reads ahead as
 * it likes, past what anybody needs, and nobody waits for that.)
 */
async function readWithoutSource(mountpoint: string): Promise<string> {
  proxy.refuse = true;
  try {
    return await readUsed(mountpoint);
  } finally {
    proxy.refuse = false;
  }
}

const ranges = (): number => proxy.requests.filter(({ range }) => range !== null).length;

/** Until no request came for a while: nobody says when the fetching ahead is over. */
async function quiet(): Promise<void> {
  await expect.poll(ranges, { timeout: 20_000 }).toBeGreaterThan(0);
  for (let seen = -1; seen !== ranges(); await Bun.sleep(300)) seen = ranges();
}

test.each(DRIVERS)(
  "a recorded start does not need the source when it is replayed, through %s",
  async (driver) => {
    const trace = place.path(`${driver}.trace`);
    const recorded = await place.mount(image, {
      driver,
      cache: place.path(`${driver}-1`),
      flags: ["--record", trace],
    });
    const content = await readUsed(recorded);
    await place.umount(recorded);

    proxy.reset();
    const mountpoint = await place.mount(image, {
      driver,
      cache: place.path(`${driver}-2`),
      flags: ["--trace", trace],
    });
    await quiet();
    // The files and what the kernel read ahead behind them, but not the whole image.
    expect(proxy.blobBytes()).toBeLessThan(14_000_000);
    expect(await readWithoutSource(mountpoint)).toBe(content);
    await place.umount(mountpoint);
  },
);

test("a first run is learnt without being told, and the next one fetches ahead", async () => {
  const cache = place.path("learnt");
  const first = await place.mount(image, { cache });
  const content = await readUsed(first);
  await place.umount(first);
  const [name = ""] = await readdir(`${cache}/traces`);
  expect(name).toMatch(/^[0-9a-f]{64}\.json$/);

  // The data is gone, as after an eviction; the list is not.
  await rm(`${cache}/blobs`, { recursive: true });
  proxy.reset();
  const second = await place.mount(image, { cache });
  await quiet();
  expect(await readWithoutSource(second)).toBe(content);
  await place.umount(second);

  await writeFile(`${cache}/traces/${name}`, "damaged");
  const third = await place.mount(image, { cache });
  await readUsed(third);
  await place.umount(third);
  expect(JSON.parse(await readFile(`${cache}/traces/${name}`, "utf8"))).toMatchObject({ version: 1 });
});

test("a trace that is none is refused before anything is mounted", async () => {
  await writeFile(place.path("bad.trace"), '{"version":1}');
  const mountpoint = place.path("bad-mnt");
  await run("mkdir", [mountpoint]);
  for (const [file, exit] of [
    ["bad.trace", "corrupt"],
    ["no.trace", "not_found"],
  ] as const) {
    const words = [
      ...place.mountWords({ flags: ["--trace", place.path(file)] }),
      "--detach",
      image,
      mountpoint,
    ];
    const output = await place.tool(words, { mayFail: true });
    expect(output.stderr, exit).toMatch(/^nydus-tool: Cannot [^\n]*trace[^\n]*\n$/);
    expect(output.code).toBeGreaterThan(0);
  }
  expect(place.mounts()).toEqual([]);
});
