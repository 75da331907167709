/**
 * eStargz images on real parts: containerd pulls them through our snapshotter without their data, and containers run from
 * them while their files arrive.
 *
 * The tests build on each other, in order.
 */
import { lstatSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, withLinks } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { type Service, waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { type TarItem, tarOf } from "./support/tar-builder.ts";
import { type TocFormat, tocLayer } from "./support/toc-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;

async function shell(): Promise<TarItem[]> {
  const paths = new Set<string>();
  for (const path of await shellFiles()) withLinks(path, paths);
  const directories = ["proc/", "sys/", "dev/", "etc/", "tmp/"].map((path): TarItem => {
    return { path, type: "dir", mode: 0o755 };
  });
  const files = [...paths].sort().map((path): TarItem => {
    const name = path.slice(1);
    if (lstatSync(path).isSymbolicLink()) return { path: name, type: "symlink", target: readlinkSync(path) };
    return { path: name, type: "file", mode: 0o755, data: readFileSync(path) };
  });
  return [...directories, ...files];
}

function application(): TarItem[] {
  const random = new Random(9);
  const unread = Array.from({ length: 10 }, (_, i): TarItem => {
    return { path: `srv/unread-${i}`, type: "file", data: random.noise(2 * MIB) };
  });
  return [
    { path: "app/hello", type: "file", data: Buffer.from("hello from a layer\n") },
    { path: "usr/bin/.wh.env", type: "file" },
    ...unread,
  ];
}

/** runc knows containers of all containerds of a machine by their ids alone. */
const idOf = (place: Workspace, name: string): string => `${basename(place.directory)}-${name}`;

const SCRIPT = "test ! -e /usr/bin/env && echo new > /app/mine && cat /app/hello /app/mine";
const OUTPUT = "hello from a layer\nnew";

describe.each<TocFormat>(["estargz", "podman"])("an image of %s layers", (format) => {
  let place: Workspace;
  let containerd: Containerd;
  let proxy: CountingProxy;
  let snapshotter: Service;
  let imageBytes = 0;
  let lazy: string;
  let mixed: string;

  const start = async (id: string, reference: string): Promise<string> => {
    const words = [
      "run",
      "--rm",
      "--snapshotter",
      "nydus",
      reference,
      idOf(place, id),
      "/bin/sh",
      "-ec",
      SCRIPT,
    ];
    return (await containerd.ctr(words)).stdout.trim();
  };
  const pull = (reference: string) =>
    place.tool(["pull", "--json", "--containerd-address", containerd.address, reference]);
  const snapshots = async () =>
    (await containerd.ctr(["snapshots", "--snapshotter", "nydus", "ls"])).stdout.trim().split("\n").slice(1);
  const startSnapshotter = async (): Promise<void> => {
    snapshotter = await place.startSnapshotter("--status", `unix:${place.path("status.sock")}`);
  };

  beforeAll(async () => {
    place = await openWorkspace();
    const registry = await startEmbeddedRegistry(place);
    const [base, app] = [await shell(), application()];
    // Another tar than that of the lazy image: one of the same diff id would be the same snapshot.
    const more: TarItem = { path: "app/more", type: "file" };
    const layout = await writeLayout(
      place.path("lazy"),
      [base, app].map((items) => tocLayer(items, { format })),
    );
    await writeLayout(place.path("mixed"), [tocLayer(base, { format }), tarOf([...app, more])]);
    imageBytes = layout.layers.reduce((total, layer) => total + layer.size, 0);
    for (const name of ["lazy", "mixed"])
      await place.tool(["pull", `oci:${place.path(name)}:t`, `${registry.host}/${name}:1`]);
    proxy = await startCountingProxy(registry.host);
    [lazy, mixed] = [`${proxy.host}/lazy:1`, `${proxy.host}/mixed:1`];
    containerd = await startNodeContainerd(place);
    await startSnapshotter();
  }, 300_000);

  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  test("is pulled without its layers, and runs while a part of them arrives", async () => {
    const { layers } = JSON.parse((await pull(lazy)).stdout) as { layers: { state: string }[] };
    expect(layers.map(({ state }) => state)).toEqual(["lazy", "lazy"]);
    expect(proxy.blobBytes()).toBeLessThan(10_000);
    expect(await start("first", lazy)).toBe(OUTPUT);
    expect(proxy.blobBytes()).toBeLessThan(imageBytes / 2);
  });

  test("says what it is, and runs on after a restart of the snapshotter", async () => {
    const long = idOf(place, "long");
    await containerd.ctr(["run", "--detach", "--snapshotter", "nydus", lazy, long, "/bin/sleep", "600"]);
    await snapshotter.stop();
    await startSnapshotter();
    const { stdout } = await place.tool(["status", "--address", `unix:${place.path("status.sock")}`]);
    expect(stdout).toMatch(format === "estargz" ? /format +eStargz/ : /format +zstd:chunked/);
    const inside = ["task", "exec", "--exec-id", "x", long, "/bin/cat", "/app/hello"];
    expect((await containerd.ctr(inside)).stdout).toBe("hello from a layer\n");
    // containerd backs off for a moment when it found nobody behind the socket.
    const dialled = () =>
      snapshots().then(
        (found) => found.length > 0,
        () => false,
      );
    await waitFor("containerd to dial again", dialled);
  });

  test("may have plain layers on top, which containerd unpacks", async () => {
    const { layers } = JSON.parse((await pull(mixed)).stdout) as { layers: { state: string }[] };
    expect(layers.map(({ state }) => state)).toEqual(["exists", "unpacked"]);
    expect(await start("mixed", mixed)).toBe(OUTPUT);
  });

  test("is unpacked by a client that says nothing about layers", async () => {
    await containerd.removeContainers();
    await containerd.ctr(["image", "rm", "--sync", lazy, mixed]);
    await expect.poll(snapshots, { timeout: 20_000 }).toEqual([]);
    await containerd.ctr(["image", "pull", "--plain-http", "--snapshotter", "nydus", lazy]);
    expect(await start("by-ctr", lazy)).toBe(OUTPUT);
  });

  test("leaves no snapshot and no mount", async () => {
    await containerd.ctr(["image", "rm", "--sync", lazy]);
    await expect.poll(snapshots, { timeout: 20_000 }).toEqual([]);
    const mounts = () => place.mounts().filter((point) => !point.startsWith(place.path("c")));
    await expect.poll(mounts, { timeout: 20_000 }).toEqual([]);
  });
});
