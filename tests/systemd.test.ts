/**
 * Under systemd, whose part a stand-in for the notify socket plays: everything may be stopped and started again, and
 * readers have only waited.
 */
import { copyFile, readFile, readlink } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { NotifySocket } from "./support/notify-socket.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { waitFor } from "./support/process.ts";
import { dropCaches, processesThat } from "./support/readers.ts";
import { openWorkspace, TOOL, type Workspace } from "./support/workspace.ts";

let place: Workspace;
let containerd: Containerd;
let systemd: NotifySocket;
let snapshotter = 0;
let image: string;
let expected: string[];

const status = async () =>
  (await place.tool(["status", "--address", `unix:${place.path("status.sock")}`], { mayFail: true })).stdout;
/** In the container that runs all the time. Its output goes to a file there: what ctr is told can get lost. */
async function sumsInside(): Promise<string[]> {
  const name = `sums-${performance.now()}`;
  const command = `sha256sum /bin/ls /bin/cat /usr/bin/env > /${name}`;
  const words = ["task", "exec", "--exec-id", name, "long", "/bin/sh", "-c", command];
  await containerd.ctr(words);
  const root = place.path("c", "state", "io.containerd.runtime.v2.task", "default", "long", "rootfs");
  return (await readFile(`${root}/${name}`, "utf8")).trim().split("\n");
}

/** containerd backs off for a moment when it found nobody behind the socket. */
async function newContainerWorks(): Promise<void> {
  const up = async () => {
    const words = ["run", "--rm", "--snapshotter", "nydus", image, `n${performance.now()}`, "/bin/echo"];
    return (await containerd.ctr(words, { mayFail: true })).code;
  };
  await expect.poll(up, { timeout: 30_000 }).toBe(0);
}

async function start(): Promise<void> {
  const printed = (await place.log("snapshotter")).length;
  snapshotter = await systemd.start(
    [
      ...[TOOL, "snapshotter", "serve", "--root", place.path("snapshots"), "--address", place.path("s.sock")],
      ...["--containerd-address", containerd.address, "--run-dir", place.path("run")],
      ...["--status", `unix:${place.path("status.sock")}`],
    ],
    place.path("snapshotter.log"),
  );
  await waitFor("the snapshotter", async () =>
    (await place.log("snapshotter")).slice(printed).includes("status at"),
  );
}

/** As systemd stops a unit: its whole control group. */
async function stopAll(signal: NodeJS.Signals): Promise<void> {
  const servers = await processesThat(place, "server");
  for (const pid of [...servers, snapshotter]) process.kill(pid, signal);
  await systemd.ended(snapshotter);
  await waitFor("the mount server to end", async () => (await processesThat(place, "server")).length === 0);
}

beforeAll(async () => {
  place = await openWorkspace();
  const registry = await startEmbeddedRegistry(place);
  await writeLayout(place.path("source"), [await tarOfMachine(await shellFiles())]);
  image = `${registry.host}/app:1`;
  await place.tool(["convert", `oci:${place.path("source")}:t`, image]);
  containerd = await startNodeContainerd(place);
  systemd = new NotifySocket(place);
  await start();
  await place.tool([
    ...["pull", "--containerd-address", containerd.address, "--snapshotter", "nydus", image],
  ]);
  await containerd.ctr(["run", "--detach", "--snapshotter", "nydus", image, "long", "/bin/sleep", "600"]);
  expected = await sumsInside();
}, 120_000);

afterAll(async () => {
  await containerd?.[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

test("the service says that it is ready, and its file systems are in the store", async () => {
  await systemd.saw("READY=1");
  expect(await systemd.names()).toEqual([expect.stringMatching(/^fuse-\d+$/)]);
});

test.each(["SIGTERM", "SIGKILL"] as const)(
  "%s to everything: a container's reads wait for the next start",
  async (signal) => {
    await stopAll(signal);
    await dropCaches();
    const reading = sumsInside();
    await start();
    expect(await reading).toEqual(expected);
    expect(await status()).not.toContain("BROKEN");
  },
);

test("an upgrade keeps the service's process and a container's files", async () => {
  await copyFile(TOOL, place.path("next"));
  const words = ["upgrade", "--binary", place.path("next"), "--run-dir", place.path("run")];
  const reading = sumsInside();
  expect((await place.tool(words)).stdout).toContain(": now nydus-tool ");
  expect(await reading).toEqual(expected);
  expect(await readlink(`/proc/${snapshotter}/exe`)).toBe(place.path("next"));
  await waitFor("the snapshotter", async () => (await status()).includes("1 Nydus images"));
  await newContainerWorks();
});

test("when nobody kept them, a restart names the broken container, and new ones work", async () => {
  const printed = (await place.log("snapshotter")).length;
  await stopAll("SIGKILL");
  await systemd.forget();
  await dropCaches();
  await start();
  const rootfs = expect.stringMatching(/\/long\/rootfs$/);
  const broken = async () => {
    const words = ["status", "--json", "--address", `unix:${place.path("status.sock")}`];
    return JSON.parse((await place.tool(words)).stdout).broken;
  };
  // The image's own mount is replaced by a new one at once; the container holds on to the old one.
  await expect
    .poll(broken, { timeout: 20_000 })
    .toEqual([expect.objectContaining({ reference: image, mountpoints: [rootfs] })]);
  expect(await status()).toContain(`BROKEN ${image}`);
  expect((await place.log("snapshotter")).slice(printed)).not.toContain("cannot restore");
  await newContainerWorks();
  await containerd.ctr(["task", "rm", "--force", "long"]);
  expect(await status()).not.toContain("BROKEN");
});
