/**
 * A plain `ctr image pull` of Debian's containerd, which knows nothing of Nydus: it fetches every layer, gives the
 * snapshotter no labels, and unpacks all of them. With our stream processor it works, and nothing is fetched again.
 *
 * The tests build on each other, in order.
 */
import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { containerdTables } from "../lib/setup/containerd-settings.ts";
import { withTables } from "../lib/setup/toml-lines.ts";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { Random } from "./support/random.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, TOOL, type Workspace } from "./support/workspace.ts";

describe("ctr image pull", () => {
  let place: Workspace;
  let containerd: Containerd;
  let proxy: CountingProxy;
  const image = (name: string): string => `${proxy.host}/${name}:1`;
  const pull = (name: string, options = {}) =>
    containerd.ctr(["images", "pull", "--plain-http", "--snapshotter", "nydus", image(name)], options);
  const start = (name: string, id: string, script: string) =>
    containerd.ctr(["run", "--rm", "--snapshotter", "nydus", image(name), id, "/bin/sh", "-ec", script]);

  beforeAll(async () => {
    place = await openWorkspace();
    const registry = await startEmbeddedRegistry(place);
    const data = { path: "srv/data", type: "file", data: new Random(9).noise(3_000_000) } as const;
    const layers = [await tarOfMachine(await shellFiles()), tarOf([data])];
    await writeLayout(place.path("source"), layers);
    const source = `oci:${place.path("source")}:t`;
    await place.tool(["convert", source, `${registry.host}/app:1`]);
    await place.tool(["convert", "--fs-version", "5", source, `${registry.host}/app5:1`]);
    await writeLayout(place.path("odd"), [
      tarOf([{ path: "image/image.boot", type: "file", data: Buffer.alloc(2000) }]),
    ]);
    await place.tool(["pull", `oci:${place.path("odd")}:t`, `${registry.host}/odd:1`]);
    proxy = await startCountingProxy(registry.host);
    await place.startSnapshotter();
    // As `snapshotter install` configures it.
    const settings = { name: "nydus", address: place.path("s.sock"), root: place.path("snapshots") };
    const version = { major: 1, minor: 6 };
    const tables = containerdTables({ version: 2 }, { ...settings, program: TOOL, cri: false, version });
    const config = withTables(
      "",
      tables.filter(({ path }) => path[0] === "stream_processors"),
    );
    containerd = await startNodeContainerd(place, { config });
  }, 120_000);

  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  test.each(["app", "app5"])("fetches %s whole, and containers read what is there", async (name) => {
    await pull(name);
    proxy.reset();
    expect((await start(name, `one-${name}`, "echo $(ls /srv); read x < /srv/data || true")).stdout).toBe(
      "data\n",
    );
    expect((await start(name, `two-${name}`, "echo $(ls /image /bin/sh 2>&1)")).stdout).toContain("/bin/sh");
    // The registry is asked whether a list lies beside the image, and for nothing of the image itself.
    expect(proxy.requests.filter(({ path }) => path.includes("/blobs/"))).toEqual([]);
  });

  test("an ordinary layer that only looks like a bootstrap stays a layer", async () => {
    await pull("odd");
    const { stdout } = await containerd.ctr(["snapshots", "--snapshotter", "nydus", "ls"]);
    const top = stdout
      .trim()
      .split("\n")
      .find((line) => line.includes("Committed") && !line.includes("sha256", 80));
    expect(top).toBeDefined();
    const [parent = ""] = top?.split(/\s+/) ?? [];
    await containerd.ctr(["snapshots", "--snapshotter", "nydus", "view", "odd", parent]);
    await containerd.ctr(["snapshots", "--snapshotter", "nydus", "rm", "odd"]);
  });

  test("an image made for lazy pulls only says what to do", async () => {
    const head = Buffer.concat([Buffer.from("not empty"), Buffer.alloc(2000)]);
    const processed = await place.tool(["stream-processor"], { input: head, mayFail: true });
    expect(processed).toMatchObject({ code: 14, stdout: "" });
    expect(processed.stderr).toContain('use "nydus-tool pull"');
    const blob = Buffer.concat([Buffer.alloc(1024), new Random(1).noise(200_000)]);
    const passed = await place.tool(["stream-processor"], { input: blob });
    expect(passed.code).toBe(0);
  });

  test("removed, it leaves nothing", async () => {
    for (const name of ["app", "app5", "odd"]) await containerd.ctr(["images", "rm", "--sync", image(name)]);
    await expect.poll(() => readdir(place.path("snapshots/snapshots")), { timeout: 20_000 }).toEqual([]);
  });
});
