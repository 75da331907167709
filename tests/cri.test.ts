/**
 * Kubernetes' path: a kubelet pulls, runs pods and looks at images through containerd's CRI plugin, with the sandbox
 * image and the application on our snapshotter and a real network plugin.
 *
 * The tests build on each other, in order.
 */
import { readdir, readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Containerd } from "./support/containerd.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { type Kubelet, startCriContainerd, startKubelet } from "./support/cri.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run, type Service } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;

describe("containerd's CRI plugin", () => {
  let place: Workspace;
  let containerd: Containerd;
  let snapshotter: Service;
  let proxy: CountingProxy;
  let kubelet: Kubelet;
  let pod: string;
  let container: string;
  const image = (): string => `${proxy.host}/app:1`;
  const pause = (): string => `${proxy.host}/pause:1`;
  /** Where containerd and the kubelet expect a snapshotter of this name to keep its data. */
  const root = (): string => place.path("c/root/io.containerd.snapshotter.v1.nydus");

  beforeAll(async () => {
    place = await openWorkspace();
    const registry = await startEmbeddedRegistry(place);
    const shell = await tarOfMachine(await shellFiles());
    const unread = tarOf([
      { path: "srv/", type: "dir" },
      { path: "srv/unread", type: "file", data: new Random(5).noise(24 * MIB) },
      { path: "srv/read", type: "file", data: new Random(6).noise(3 * MIB) },
    ]);
    const sleeping = { config: { Cmd: ["/bin/sleep", "600"], Env: ["PATH=/usr/bin:/bin"] } };
    await writeLayout(place.path("pause"), [shell], sleeping);
    await writeLayout(place.path("app"), [shell, unread], sleeping);
    const flags = ["--insecure-policy", "copy", "--dest-tls-verify=false"];
    await run("skopeo", [...flags, `oci:${place.path("pause")}:t`, `docker://${registry.host}/pause:1`]);
    await place.tool(["convert", `oci:${place.path("app")}:t`, `${registry.host}/app:1`]);
    proxy = await startCountingProxy(registry.host);
    const status = `unix:${place.path("status.sock")}`;
    snapshotter = await place.startSnapshotter("--root", root(), "--status", status);
    containerd = await startCriContainerd(place, { pause: pause() });
    kubelet = await startKubelet(containerd.address, place.path("logs"));
  }, 120_000);

  afterAll(async () => {
    await kubelet?.[Symbol.asyncDispose]();
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  test("pulls a Nydus image without its data", async () => {
    await kubelet.pull(image());
    expect(proxy.blobBytes()).toBeLessThan(MIB);
    const { image: found } = await kubelet.images.imageStatus({ image: { image: image() } });
    expect(found?.repoTags).toEqual([image()]);
  });

  test("runs a pod: an ordinary sandbox image, and a network from a CNI plugin", async () => {
    pod = await kubelet.runPod("pod-1");
    const { status } = await kubelet.runtime.podSandboxStatus({ podSandboxId: pod });
    expect(status?.network?.ip).toMatch(/^10\.213\.0\.\d+$/);
  });

  test("runs containers whose files arrive when they are read", async () => {
    proxy.reset();
    container = await kubelet.start(pod, "app", image());
    expect(await kubelet.exec(container, "/bin/sh", "-c", "echo $(ls /srv)")).toBe("read unread\n");
    await kubelet.exec(container, "/bin/sh", "-c", "cat /srv/read > /written");
    expect(proxy.blobBytes()).toBeGreaterThan(3 * MIB);
    expect(proxy.blobBytes()).toBeLessThan(12 * MIB);
    const short = await kubelet.start(pod, "short", image(), ["/bin/sh", "-c", "echo said; exit 7"]);
    expect(await kubelet.exitOf(short)).toBe(7);
    expect(await readFile(place.path("logs/pod-1/short.log"), "utf8")).toContain(" F said\n");
    await kubelet.runtime.removeContainer({ containerId: short });
  });

  test("counts what a container wrote, and what the cache holds of its image", async () => {
    const written = async (): Promise<number> => {
      const { stats } = await kubelet.runtime.containerStats({ containerId: container });
      return Number(stats?.writableLayer?.usedBytes?.value ?? 0n);
    };
    await expect.poll(written, { timeout: 15_000 }).toBeGreaterThanOrEqual(3 * MIB);
    const { imageFilesystems } = await kubelet.images.imageFsInfo({});
    expect(imageFilesystems).toHaveLength(1);
    expect(imageFilesystems[0]?.fsId?.mountpoint).toBe(root());
    // What was written, the sandbox image unpacked, and the fetched chunks: but not what nobody read.
    const used = async (): Promise<number> => {
      const info = await kubelet.images.imageFsInfo({});
      return Number(info.imageFilesystems[0]?.usedBytes?.value ?? 0n);
    };
    await expect.poll(used, { timeout: 15_000 }).toBeGreaterThanOrEqual(6 * MIB);
    expect(await used()).toBeLessThan(24 * MIB);
  });

  test("removes containers, pods and images, and nothing stays", async () => {
    await kubelet.runtime.stopContainer({ containerId: container });
    await kubelet.runtime.removeContainer({ containerId: container });
    await kubelet.removePod(pod);
    for (const name of [image(), pause()]) await kubelet.images.removeImage({ image: { image: name } });
    expect((await kubelet.images.listImages({})).images).toEqual([]);
    const directories = () => readdir(`${root()}/snapshots`);
    await expect.poll(directories, { timeout: 20_000 }).toEqual([]);
    await snapshotter.stop();
    expect(place.mounts().filter((point) => point.startsWith(root()))).toEqual([]);
  });
});
