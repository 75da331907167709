/**
 * A snapshotter that is killed at any moment: containerd and it agree afterwards, living containers go on, new ones
 * start, and nothing is left over.
 */
import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Containerd, startNodeContainerd } from "./support/containerd.ts";
import { type CountingProxy, startCountingProxy } from "./support/counting-proxy.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { shellFiles, tarOfMachine } from "./support/machine-files.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run, type Service, waitFor } from "./support/process.ts";
import { Random } from "./support/random.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const ROUNDS = 6;
/** Attempts of containerd's clients while its snapshotter is away fail; that is no news. */
const mayFail = { mayFail: true } as const;

describe("a killed snapshotter", () => {
  let place: Workspace;
  let containerd: Containerd;
  let snapshotter: Service;
  let proxy: CountingProxy;
  let image: string;
  const random = new Random(11);

  const status = (...words: string[]) =>
    place.tool(["status", "--address", `unix:${place.path("status.sock")}`, ...words]);
  const serve = async (): Promise<void> => {
    snapshotter = await place.startSnapshotter(
      // Otherwise the process that serves the mounts would start it again before we do.
      ...["--status", `unix:${place.path("status.sock")}`, "--supervised"],
    );
  };
  const pull = (options = {}) =>
    place.tool(
      ["pull", "--containerd-address", containerd.address, "--snapshotter", "nydus", image],
      options,
    );
  const start = (id: string, options = {}) =>
    containerd.ctr(
      ["run", "--rm", "--snapshotter", "nydus", image, id, "/bin/sh", "-c", "echo up; ls /bin"],
      options,
    );
  const listed = async (): Promise<string[]> => {
    const { stdout } = await containerd.ctr(["snapshots", "--snapshotter", "nydus", "ls"]);
    return stdout.trim().split("\n").slice(1);
  };
  /** containerd backs off for a moment when it found nobody behind the socket. */
  const dialled = () =>
    waitFor("containerd to dial again", () =>
      listed().then(
        () => true,
        () => false,
      ),
    );
  const servers = async (): Promise<number[]> => {
    const found = await run("pgrep", ["-f", `mount-server --run-dir ${place.path("run")}`], mayFail);
    return found.stdout.trim().split("\n").filter(Boolean).map(Number);
  };

  beforeAll(async () => {
    place = await openWorkspace();
    const registry = await startEmbeddedRegistry(place);
    await writeLayout(place.path("source"), [await tarOfMachine(await shellFiles())]);
    await place.tool(["convert", `oci:${place.path("source")}:t`, `${registry.host}/app:1`]);
    proxy = await startCountingProxy(registry.host);
    image = `${proxy.host}/app:1`;
    containerd = await startNodeContainerd(place);
    await serve();
    await pull();
  }, 120_000);

  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
  });

  test("in the middle of pulls, starts and removals: containerd and it agree", async () => {
    await containerd.ctr(["run", "--detach", "--snapshotter", "nydus", image, "long", "/bin/sleep", "600"]);
    for (let round = 0; round < ROUNDS; round++) {
      const work = Promise.all([
        start(`a${round}`, mayFail),
        start(`b${round}`, mayFail),
        round % 2 === 0 ? pull(mayFail) : containerd.ctr(["image", "rm", "--sync", image], mayFail),
      ]);
      await Bun.sleep(random.below(400));
      await snapshotter.stop("SIGKILL");
      await work;
      await serve();
      await dialled();
      await pull();
      expect((await start(`c${round}`)).stdout).toContain("up\n");
    }
    const inside = ["task", "exec", "--exec-id", "x", "long", "/bin/ls", "/bin"];
    expect((await containerd.ctr(inside)).stdout).toContain("sleep");
  }, 120_000);

  test("together with the process that serves its mounts: new containers start", async () => {
    await containerd.ctr(["task", "rm", "--force", "long"]);
    await snapshotter.stop("SIGKILL");
    for (const pid of await servers()) process.kill(pid, "SIGKILL");
    await serve();
    await dialled();
    expect((await start("after")).stdout).toContain("up\n");
    await containerd.ctr(["container", "rm", "long"]);
  });

  test("leaves nothing when its images and containers go", async () => {
    for (const id of (await containerd.ctr(["container", "ls", "-q"])).stdout.split("\n").filter(Boolean)) {
      await containerd.ctr(["task", "rm", "--force", id], mayFail);
      await containerd.ctr(["container", "rm", id]);
    }
    await containerd.ctr(["image", "rm", "--sync", image]);
    await expect.poll(listed, { timeout: 20_000 }).toEqual([]);
    const { snapshots } = JSON.parse((await status("--json")).stdout) as { snapshots: unknown[] };
    expect(snapshots).toEqual([]);
    await snapshotter.stop();
    expect(await servers()).toEqual([]);
    expect(place.mounts().filter((point) => !point.startsWith(place.path("c")))).toEqual([]);
    expect(await readdir(place.path("snapshots", "snapshots"))).toEqual([]);
    expect(await readdir(place.path("snapshots", "trash"))).toEqual([]);
    expect(await readdir(place.path("run")).catch(() => [])).toEqual([]);
  });
});
