/**
 * Kubernetes pulls ordinary images by their own names, and they are started through the Nydus images that refer to them:
 * containerd's CRI plugin, pods, and a registry that says what was asked for.
 *
 * The tests build on each other, in order.
 */
import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Containerd } from "./support/containerd.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { type Kubelet, startCriContainerd, startKubelet } from "./support/cri.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { type Service, waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { type TarItem, tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;

const random = new Random(11);
const text = (path: string, data: string): TarItem => ({ path, type: "file", data: Buffer.from(data) });

/** What an upper layer changes and removes comes back for images on the lower ones. */
const data = random.noise(12 * MIB);
const LIBRARY: readonly TarItem[] = [
  { path: "srv/", type: "dir" },
  text("srv/changed", "library\n"),
  text("srv/removed", "library\n"),
  { path: "srv/data", type: "file", data },
];
const APPLICATION: readonly TarItem[] = [
  text("srv/changed", "application\n"),
  text("srv/.wh.removed", ""),
  { path: "srv/unread", type: "file", data: random.noise(12 * MIB) },
];

describe("ordinary images that Nydus images refer to", () => {
  let place: Workspace;
  let containerd: Containerd;
  let snapshotter: Service;
  let proxy: CountingProxy;
  let kubelet: Kubelet;
  let pod: string;
  /** Digests of layers: the two lowest are those of two images. */
  let layers: readonly string[] = [];
  let own = "";
  let pauseLayers: readonly string[] = [];
  const image = (name: string): string => `${proxy.host}/${name}:1`;
  const fetched = (): readonly string[] =>
    proxy.requests.flatMap(({ method, path }) => (method === "GET" ? [path.split("/blobs/")[1] ?? ""] : []));
  const start = async (): Promise<void> => {
    snapshotter = await place.startSnapshotter("--referrers");
  };
  const exec = async (container: string, script: string): Promise<string> =>
    await kubelet.exec(container, "/bin/sh", "-ec", script);

  beforeAll(async () => {
    place = await openWorkspace();
    const registry = await startEmbeddedRegistry(place);
    const shell = await tarOfMachine(await shellFiles());
    const [library, application] = [tarOf([...LIBRARY]), tarOf([...APPLICATION])];
    const sleeping = { config: { Cmd: ["/bin/sleep", "600"], Env: ["PATH=/usr/bin:/bin"] } };
    // Neither its blobs nor its snapshots are those of the others.
    const apart = [tarOf([text("pause", "")]), shell];
    const pause = await writeLayout(place.path("pause"), apart, { ...sleeping, compression: ["none"] });
    pauseLayers = pause.layers.map(({ digest }) => digest);
    const app = await writeLayout(place.path("app"), [shell, library, application], sleeping);
    const top = tarOf([text("srv/own", "own\n")]);
    const other = await writeLayout(place.path("other"), [shell, library, top], sleeping);
    layers = app.layers.map(({ digest }) => digest);
    own = other.layers[2]?.digest ?? "";
    for (const name of ["pause", "app", "other"])
      await place.tool(["pull", `oci:${place.path(name)}:t`, `${registry.host}/${name}:1`]);
    await place.tool([
      "convert",
      "--with-referrer",
      `${registry.host}/app:1`,
      `${registry.host}/app:1-nydus`,
    ]);
    proxy = await startCountingProxy(registry.host);
    await start();
    containerd = await startCriContainerd(place, { pause: image("pause"), subnet: "10.214.0.0/24" });
    kubelet = await startKubelet(containerd.address, place.path("logs"));
  }, 120_000);

  afterAll(async () => {
    await kubelet?.[Symbol.asyncDispose]();
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  test("are pulled under their own names, without their layers", async () => {
    await kubelet.pull(image("app"));
    for (const layer of layers) expect(fetched()).not.toContain(layer);
    expect(proxy.blobBytes()).toBeLessThan(MIB);
    const { image: found } = await kubelet.images.imageStatus({ image: { image: image("app") } });
    expect(found?.repoTags).toEqual([image("app")]);
  });

  test("run while a part of their data arrives; an image without a referrer is pulled as ever", async () => {
    pod = await kubelet.runPod("pod");
    expect(fetched()).toEqual(expect.arrayContaining([...pauseLayers]));
    proxy.reset();
    const app = await kubelet.start(pod, "app", image("app"));
    expect(await exec(app, "echo $(ls /srv); cat /srv/changed")).toBe("changed data unread\napplication\n");
    expect(proxy.blobBytes()).toBeLessThan(12 * MIB);
    for (const layer of layers) expect(fetched()).not.toContain(layer);
  });

  test("give their layers to other images on the same base", async () => {
    proxy.reset();
    await kubelet.pull(image("other"));
    expect(fetched()).toContain(own);
    const other = await kubelet.start(pod, "other", image("other"));
    expect(await exec(other, "echo $(ls /srv); cat /srv/changed /srv/removed /srv/own")).toBe(
      "changed data own removed\nlibrary\nlibrary\nown\n",
    );
    for (const layer of layers) expect(fetched()).not.toContain(layer);
    const digest = new Bun.CryptoHasher("sha256").update(data).digest("hex");
    expect(await exec(other, "sha256sum < /srv/data")).toBe(`${digest}  -\n`);
  });

  test("are lazy for our own pull too, in another namespace", async () => {
    proxy.reset();
    const words = ["pull", "--json", "--containerd-address", containerd.address, image("app")];
    const { layers: pulled } = JSON.parse((await place.tool(words)).stdout) as {
      layers: { state: string; fetched: number }[];
    };
    expect(pulled.map(({ state, fetched: bytes }) => [state, bytes])).toEqual(layers.map(() => ["lazy", 0]));
    for (const layer of layers) expect(fetched()).not.toContain(layer);
    await containerd.ctr(["image", "rm", "--sync", image("app")]);
  });

  test("start after a restart of the snapshotter, without the registry", async () => {
    await kubelet.removePod(pod);
    pod = await kubelet.runPod("pod-2");
    await snapshotter.stop();
    proxy.refuse = true;
    await start();
    // containerd backs off for a moment when it found nobody behind the socket.
    const list = ["--namespace", "k8s.io", "snapshots", "--snapshotter", "nydus", "ls"];
    const dialled = () => containerd.ctr(list, { mayFail: true });
    await waitFor("containerd to dial again", async () => (await dialled()).code === 0);
    const app = await kubelet.start(pod, "app", image("app"));
    expect(await exec(app, "cat /srv/changed")).toBe("application\n");
    const other = await kubelet.start(pod, "other", image("other"));
    expect(await exec(other, "cat /srv/changed /srv/removed")).toBe("library\nlibrary\n");
  });

  test("leave nothing", async () => {
    expect(await place.log("snapshotter")).not.toContain("are read instead");
    await kubelet.removePod(pod);
    for (const name of ["app", "other", "pause"])
      await kubelet.images.removeImage({ image: { image: image(name) } });
    await expect.poll(() => readdir(place.path("snapshots/snapshots")), { timeout: 20_000 }).toEqual([]);
    await expect.poll(() => readdir(place.path("snapshots/referring"))).toEqual([]);
    await snapshotter.stop();
    expect(place.mounts().filter((point) => point.startsWith(place.path("snapshots")))).toEqual([]);
  });
});
