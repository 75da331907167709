/** What one run of an image read is fetched ahead by the next one: given as a file, or learnt by the cache. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
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
  proxy = await startCountingProxy(registry.host);
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

/** What the files' start reads, as `mount --record` writes it. */
async function recordedTrace(): Promise<string> {
  const trace = place.path("used.trace");
  const cache = place.path("recorded");
  const mountpoint = await place.mount(image, { cache, flags: ["--record", trace] });
  await readUsed(mountpoint);
  await place.umount(mountpoint);
  return trace;
}

/** Mounts and waits until the files' data has been asked for, which nobody has read yet; then reads them. */
async function readAhead(from: string, flags: readonly string[] = []): Promise<string> {
  proxy.reset();
  const cache = await mkdtemp(place.path("cache-"));
  const mountpoint = await place.mount(from, { cache, flags });
  await expect.poll(() => proxy.blobBytes(), { timeout: 60_000 }).toBeGreaterThan(2_000_000 * USED.length);
  const content = await readUsed(mountpoint);
  await place.umount(mountpoint);
  return content;
}

test("an optimized image's start is one request, and its data is the same", async () => {
  const hot = image.replace(":n", ":hot");
  const trace = await recordedTrace();
  const report = await place.tool(["optimize", "--json", "--trace", trace, image, hot]);
  const { hot: blob, copied } = JSON.parse(report.stdout);
  expect(copied).toEqual({ blobs: 0, bytes: 0 });
  const whole = await place.mount(image, { cache: place.path("cache") });
  const content = await readUsed(whole);
  await place.umount(whole);
  expect(await readAhead(hot)).toBe(content);
  const ofHot = proxy.requests.filter(({ path, range }) => range !== null && path.endsWith(blob.digest));
  expect(ofHot).toHaveLength(1);
  expect((await place.tool(["check", "--data", hot])).code).toBe(0);
});

test("a list that is kept beside an image serves nodes that never ran it", async () => {
  const trace = await recordedTrace();
  const none = await place.tool(["trace", "pull", image, place.path("none")], { mayFail: true });
  expect(none.stderr).toMatch(/^nydus-tool: Cannot get the list of [^\n]*: it has none; [^\n]*\n$/);
  expect((await place.tool(["trace", "push", image, trace])).stdout).toMatch(/has a list of \d+ ranges\n$/);
  expect((await place.tool(["trace", "push", image, trace])).stdout).toMatch(/has this list already\n$/);
  await place.tool(["trace", "pull", image, place.path("pulled.trace")]);
  expect(await readFile(place.path("pulled.trace"))).toEqual(await readFile(trace));
  const content = await readAhead(image, ["--trace", trace]);
  expect(await readAhead(image)).toBe(content);
  // The list is what optimize takes when it is given none.
  await place.tool(["optimize", image, image.replace(":n", ":hot2")]);
});

test("a first run's list is kept beside the image when that is asked for", async () => {
  const other = image.replace(":n", ":shared");
  const source = `oci:${place.path("source")}:t`;
  await place.tool(["convert", "--chunk-size", "32K", source, other]);
  const cache = place.path("sharing");
  const mountpoint = await place.mount(other, { cache, flags: ["--push-list"] });
  const content = await readUsed(mountpoint);
  await place.umount(mountpoint);
  const pull = ["trace", "pull", other, place.path("shared.trace")];
  await expect
    .poll(async () => (await place.tool(pull, { mayFail: true })).code, { timeout: 20_000 })
    .toBe(0);
  expect(await readAhead(other)).toBe(content);
});

test("paths are fetched ahead when that is asked for, within the rate that is given", async () => {
  const plain = image.replace(":n", ":paths");
  await place.tool(["convert", "--chunk-size", "128K", `oci:${place.path("source")}:t`, plain]);
  const paths = USED.flatMap((path) => ["--prefetch", `/${path}`]);
  await readAhead(plain, [...paths, "--prefetch-bandwidth", "20M"]);
});

test("what conversion put into the prefetch table is fetched ahead by nodes that know nothing else", async () => {
  const named = image.replace(":n", ":table");
  const paths = USED.flatMap((path) => ["--prefetch", `/${path}`]);
  await place.tool(["convert", "--chunk-size", "256K", ...paths, `oci:${place.path("source")}:t`, named]);
  await readAhead(named);
});
