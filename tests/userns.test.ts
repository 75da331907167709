/**
 * Containers in user namespaces, on a Nydus image and on an ordinary one: root inside is nobody outside, and owners in
 * the image are who they were, without a file being copied or changed.
 */
import { chmod, readdir, stat } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { closureOf, shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { type Service, waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const MIB = 1024 * 1024;
const HOST = 100_000;
const MAPPING = `0:${HOST}:65536`;

describe("a container in a user namespace", () => {
  let place: Workspace;
  let containerd: Containerd;
  let proxy: CountingProxy;
  let snapshotter: Service;
  const image = (tag: string): string => `${proxy.host}/app:${tag}`;
  const snapshotMounts = () => place.mounts().filter((path) => path.startsWith(place.path("snapshots")));
  const create = (tag: string, id: string, script: string) =>
    containerd.ctr([
      ...["run", "--detach", "--snapshotter", "nydus", "--uidmap", MAPPING, "--gidmap", MAPPING],
      ...["--remap-labels", image(tag), id, "/bin/sh", "-ec", script],
    ]);
  const exec = (id: string, script: string) =>
    containerd.ctr(["task", "exec", "--exec-id", `e${Math.random()}`, id, "/bin/sh", "-ec", script]);
  const remove = async (id: string): Promise<void> => {
    await containerd.ctr(["task", "rm", "--force", id]);
    await containerd.ctr(["container", "rm", id]);
  };

  beforeAll(async () => {
    place = await openWorkspace();
    // Whoever is root inside must reach the container's root directory.
    await chmod(place.directory, 0o711);
    const registry = await startEmbeddedRegistry(place);
    const files = [...(await shellFiles()), ...(await closureOf("/usr/bin/stat"))];
    const data = tarOf([
      { path: "srv/", type: "dir", mode: 0o755 },
      { path: "srv/mine", type: "file", uid: 1000, gid: 1001, mode: 0o600, data: Buffer.from("mine\n") },
      { path: "srv/unread", type: "file", data: new Random(8).noise(8 * MIB) },
      { path: "tmp/", type: "dir", mode: 0o1777 },
      ...["proc/", "sys/", "dev/"].map((path) => ({ path, type: "dir" as const, mode: 0o755 })),
    ]);
    await writeLayout(place.path("source"), [await tarOfMachine(files), data]);
    const source = `oci:${place.path("source")}:t`;
    await place.tool(["convert", source, `${registry.host}/app:lazy`]);
    await place.tool(["pull", source, `${registry.host}/app:plain`]);
    proxy = await startCountingProxy(registry.host);
    snapshotter = await place.startSnapshotter();
    containerd = await startNodeContainerd(place);
    for (const tag of ["lazy", "plain"])
      await place.tool(["pull", "--containerd-address", containerd.address, image(tag)]);
    proxy.reset();
  }, 120_000);

  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  test.each(["lazy", "plain"])("sees the owners of the image (%s), and writes as root", async (tag) => {
    await create(tag, tag, "exec sleep 600");
    const script =
      "stat -c '%u:%g %n' /bin/sh /srv/mine /; cat /srv/mine; echo new > /srv/new; echo more >> /srv/mine";
    expect((await exec(tag, script)).stdout.split("\n")).toEqual([
      ...["0:0 /bin/sh", "1000:1001 /srv/mine", "0:0 /", "mine", ""],
    ]);
    expect((await exec(tag, "stat -c '%u:%g' /srv/new /srv/mine; cat /proc/self/uid_map")).stdout).toMatch(
      /^0:0\n1000:1001\n\s+0\s+100000\s+65536\n$/,
    );
    const uppers = await readdir(place.path("snapshots/snapshots"));
    const found = await Promise.all(
      uppers.map((id) => stat(place.path(`snapshots/snapshots/${id}/fs/srv/new`)).catch(() => undefined)),
    );
    expect(found.flatMap((file) => file?.uid ?? [])).toEqual([HOST]);
    expect(proxy.blobBytes()).toBeLessThan(6 * MIB);
    await remove(tag);
    await expect.poll(snapshotMounts, { timeout: 10_000 }).toEqual([]);
  });

  test("leaves no mount behind when its snapshotter was killed in between", async () => {
    await create("lazy", "killed", "exec sleep 600");
    const mounts = snapshotMounts();
    expect(mounts.some((path) => path.endsWith("/mapped/image"))).toBe(true);
    process.kill(snapshotter.pid, "SIGKILL");
    const back = async (): Promise<boolean> =>
      (await containerd.ctr(["snapshots", "--snapshotter", "nydus", "ls"], { mayFail: true })).code === 0;
    await waitFor("the snapshotter to be back", back);
    expect((await exec("killed", "cat /srv/mine")).stdout).toBe("mine\n");
    expect(snapshotMounts()).toEqual(mounts);
    await remove("killed");
    await expect.poll(snapshotMounts, { timeout: 10_000 }).toEqual([]);
  });
});
