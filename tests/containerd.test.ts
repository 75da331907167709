/**
 * The whole path on real parts: an ordinary image is pushed to Debian's docker-registry, converted there, pulled by
 * containerd without its data, and containers run from it while their files arrive.
 *
 * The tests build on each other, in order: each says what holds at that point of the story.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { startDockerRegistry } from "./support/docker-registry.ts";
import { closureOf, pythonFiles, shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run, type Service, waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { type TarItem, tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;
const SCRIPT = "import json, decimal; print(json.dumps({'sum': str(decimal.Decimal(19) + 23)}))";
const HELLO = '{"sum": "42"}';

/** Layers: a shell, Python, then an application that changes something of each and brings data that nobody reads. */
async function applicationLayers(): Promise<Uint8Array[]> {
  const random = new Random(7);
  const unread: TarItem[] = Array.from({ length: 12 }, (_, i) => ({
    path: `srv/unread-${i}`,
    type: "file",
    data: random.noise(2 * MIB),
  }));
  const application: TarItem[] = [
    { path: "app/main.py", type: "file", data: Buffer.from(`${SCRIPT}\n`) },
    { path: "app/sum", type: "symlink", target: "main.py" },
    { path: "usr/bin/.wh.env", type: "file" },
    { path: "tmp/", type: "dir", mode: 0o1777 },
    ...["proc/", "sys/", "dev/", "etc/"].map((path): TarItem => ({ path, type: "dir", mode: 0o755 })),
  ];
  const shell = await tarOfMachine([...(await shellFiles()), ...(await closureOf("/bin/touch"))]);
  const python = await tarOfMachine(await pythonFiles());
  return [shell, python, tarOf([...application, ...unread])];
}

describe("an image that was not downloaded", () => {
  let place: Workspace;
  let containerd: Containerd;
  let proxy: CountingProxy;
  let snapshotter: Service;
  let imageBytes = 0;
  let plain: string;
  let lazy: string;

  const ctr = (...args: string[]) => containerd.ctr(args);
  const start = (id: string, reference: string, ...command: string[]) =>
    ctr("run", "--rm", "--snapshotter", "nydus", reference, id, ...command);
  const pull = (reference: string) =>
    place.tool(["pull", "--containerd-address", containerd.address, "--snapshotter", "nydus", reference]);
  const snapshots = async () =>
    (await ctr("snapshots", "--snapshotter", "nydus", "ls")).stdout.trim().split("\n").slice(1);
  /** A container that was left running. */
  const end = async (id: string) => {
    await ctr("task", "kill", "--signal", "SIGKILL", id);
    await expect
      .poll(async () => (await ctr("task", "ls")).stdout, { timeout: 10_000 })
      .toMatch(new RegExp(`${id}\\s+\\d+\\s+STOPPED`));
    await ctr("task", "rm", id);
    await ctr("container", "rm", id);
  };
  const startSnapshotter = async () => {
    snapshotter = await place.startSnapshotter(
      // Short, so that the whole story would show whether anything leaves the cache that is in use.
      ...["--status", `unix:${place.path("status.sock")}`, "--cache-grace", "2s"],
    );
  };

  beforeAll(async () => {
    place = await openWorkspace();
    const registry = await startDockerRegistry(place.path("registry"));
    place.defer(() => registry[Symbol.asyncDispose]());
    const layout = await writeLayout(place.path("source"), await applicationLayers(), {
      config: { Cmd: ["/usr/bin/python3", "-S", "/app/main.py"], Env: ["PATH=/usr/bin:/bin"] },
    });
    imageBytes = layout.layers.reduce((total, layer) => total + layer.size, 0);
    expect(imageBytes).toBeGreaterThan(30e6);
    await run("skopeo", [
      "copy",
      "--dest-tls-verify=false",
      `oci:${place.path("source")}:t`,
      `docker://${registry.host}/app:1`,
    ]);
    await place.tool(["convert", `${registry.host}/app:1`, `${registry.host}/app:1-nydus`]);

    proxy = await startCountingProxy(registry.host);
    plain = `${proxy.host}/app:1`;
    lazy = `${proxy.host}/app:1-nydus`;
    containerd = await startNodeContainerd(place);
    await startSnapshotter();
  }, 300_000);

  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  test("pull fetches the manifest, the config and the bootstrap", async () => {
    const { stdout } = await pull(lazy);
    expect(stdout).toContain("Nydus image");
    expect(proxy.blobBytes()).toBeLessThan(imageBytes / 50);
    expect((await ctr("images", "ls")).stdout).toContain(lazy);
  });

  test("a container runs while less than a third of the image arrives", async () => {
    expect((await start("first", lazy)).stdout.trim()).toBe(HELLO);
    expect(proxy.blobBytes()).toBeGreaterThan(0);
    expect(proxy.blobBytes()).toBeLessThan(imageBytes / 3);
  });

  test("a second container starts without any request", async () => {
    // At the end of a first run, when its image is let go, what the next one may read besides is fetched.
    const status = ["status", "--address", `unix:${place.path("status.sock")}`];
    await expect
      .poll(async () => (await place.tool(status)).stdout, { timeout: 20_000 })
      .toContain("nothing is mounted");
    await writeFile("/proc/sys/vm/drop_caches", "3");
    proxy.reset();
    expect((await start("second", lazy)).stdout.trim()).toBe(HELLO);
    expect(proxy.requests).toEqual([]);
  });

  test("several containers share the image and write apart from each other", async () => {
    const ids = ["a", "b", "c", "d"];
    const script =
      "test ! -e /usr/bin/env && echo $0 > /app/mine && cat /app/mine && exec python3 -S /app/sum";
    const outputs = await Promise.all(ids.map((id) => start(id, lazy, "/bin/sh", "-ec", script, id)));
    expect(outputs.map(({ stdout }) => stdout.trim().split("\n"))).toEqual(ids.map((id) => [id, HELLO]));
    const { stdout } = await start("after", lazy, "/bin/ls", "/app");
    expect(stdout.trim().split(/\s+/)).toEqual(["main.py", "sum"]);
  });

  test("a container shows every file of the image", async () => {
    const listing = 'cd / && for f in srv/* app/* usr/bin/*; do sha256sum "$f"; done';
    const seen = (await start("all", lazy, "/bin/sh", "-ec", listing)).stdout;
    await mkdir(place.path("bundle"));
    await run("umoci", ["unpack", "--image", `${place.path("source")}:t`, place.path("bundle")]);
    const wanted = await run("sh", ["-ec", listing.replace("cd / ", `cd ${place.path("bundle/rootfs")} `)]);
    expect(seen).toBe(wanted.stdout);
    expect(seen.split("\n").length).toBeGreaterThan(20);
  });

  test("a running container survives a restart of the snapshotter", async () => {
    await ctr("run", "--detach", "--snapshotter", "nydus", lazy, "long", "/bin/sleep", "600");
    const { stdout } = await place.tool(["status", "--address", `unix:${place.path("status.sock")}`]);
    expect(stdout).toContain(lazy);
    await snapshotter.stop();
    await startSnapshotter();
    await writeFile("/proc/sys/vm/drop_caches", "3");
    const inside = await ctr(
      "task",
      "exec",
      "--exec-id",
      "x",
      "long",
      "/usr/bin/python3",
      "-S",
      "/app/main.py",
    );
    expect(inside.stdout.trim()).toBe(HELLO);
    // containerd backs off for a moment when it found nobody behind the socket.
    await waitFor("containerd to dial again", () =>
      snapshots().then(
        (found) => found.length > 0,
        () => false,
      ),
    );
    expect((await start("fresh", lazy)).stdout.trim()).toBe(HELLO);
    await end("long");
  });

  test("an ordinary image runs on the same snapshotter, pulled by us or by ctr", async () => {
    await pull(plain);
    expect((await start("plain", plain)).stdout.trim()).toBe(HELLO);
    await start("whiteout", plain, "/bin/sh", "-c", "test ! -e /usr/bin/env");
    await ctr("image", "rm", "--sync", plain);
    await ctr("image", "pull", "--plain-http", "--snapshotter", "nydus", plain);
    expect((await start("by-ctr", plain)).stdout.trim()).toBe(HELLO);
  });

  test("images of other kinds run too: on another's chunks, and encrypted in batches", async () => {
    const others = [`${proxy.host}/other:dict`, `${proxy.host}/other:sealed`] as const;
    await place.tool(["convert", "--chunk-dict", lazy, plain, others[0]]);
    await place.tool(["convert", "--encrypt", "--batch-size", "1M", plain, others[1]]);
    for (const [i, image] of others.entries()) {
      await pull(image);
      expect((await start(`other-${i}`, image)).stdout.trim()).toBe(HELLO);
    }
    await ctr("image", "rm", "--sync", ...others);
  });

  test("a list that was left beside an image is fetched ahead by a node that never ran it", async () => {
    const listed = `${proxy.host}/app:listed`;
    await place.tool(["convert", "--chunk-size", "512K", plain, listed]);
    const trace = place.path("unread.trace");
    const own = await workspace();
    const mountpoint = await own.mount(listed, { flags: ["--record", trace] });
    await readFile(`${mountpoint}/srv/unread-3`);
    await own.umount(mountpoint);
    await place.tool(["trace", "push", listed, trace]);
    const manifest = await fetch(`http://${proxy.host}/v2/app/manifests/listed`, {
      headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
    });
    const { layers } = (await manifest.json()) as { layers: { digest: string }[] };
    const unread = layers.at(-2)?.digest ?? "";
    const ahead = () =>
      proxy.requests.reduce((sum, { path, bytes }) => sum + (path.endsWith(unread) ? bytes : 0), 0);
    await pull(listed);
    proxy.reset();
    await ctr("run", "--detach", "--snapshotter", "nydus", listed, "listed", "/bin/sleep", "600");
    // Nobody reads it there.
    await expect.poll(ahead, { timeout: 60_000 }).toBeGreaterThan(2 * MIB);
    await end("listed");
    await ctr("image", "rm", "--sync", listed);
  });

  test("removing images and containers leaves no snapshot, no mount, no cached data and no process", async () => {
    const cached = async (): Promise<string[]> => {
      const kinds = ["blobs", "checked", "chunk-info", "erofs", "traces"];
      const found = kinds.map((kind) => readdir(place.path("snapshots/cache", kind)).catch(() => []));
      return (await Promise.all(found)).flat();
    };
    expect((await cached()).length).toBeGreaterThan(3);
    await ctr("image", "rm", "--sync", plain, lazy);
    await expect.poll(snapshots, { timeout: 20_000 }).toEqual([]);
    const overlays = () => place.mounts().filter((point) => !point.startsWith(place.path("c")));
    await expect.poll(overlays, { timeout: 20_000 }).toEqual([]);
    await expect.poll(cached, { timeout: 20_000 }).toEqual([]);
    await snapshotter.stop();
    const servers = async () => (await run("pgrep", ["-af", place.path("run")], { mayFail: true })).stdout;
    await expect.poll(servers, { timeout: 10_000 }).toBe("");
    expect(await readdir(place.path("run")).catch(() => [])).toEqual([]);
    expect(await readdir(place.path("snapshots", "snapshots")).catch(() => [])).toEqual([]);
  });
});
