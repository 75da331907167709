import { mkdtemp } from "node:fs/promises";
import { expect, test } from "vitest";
import { startContainerd } from "./containerd.ts";
import { startDockerRegistry } from "./docker-registry.ts";
import { mountsUnder } from "./mounts.ts";

test("startContainerd() answers ctr, survives a restart and leaves nothing behind", async () => {
  const directory = await mkdtemp("/tmp/nt-ctd-");
  {
    await using containerd = await startContainerd({ directory });
    await containerd.ctr(["namespace", "create", "spare"]);
    await containerd.stop();
    await containerd.start();
    expect((await containerd.ctr(["namespace", "ls", "-q"])).stdout).toContain("spare");
  }
  expect(mountsUnder(directory)).toEqual([]);
  expect(await Bun.file(`${directory}/config.toml`).exists()).toBe(false);
});

test("startDockerRegistry() serves the distribution API", async () => {
  await using registry = await startDockerRegistry(await mkdtemp("/tmp/nt-reg-"));
  expect((await fetch(`http://${registry.host}/v2/_catalog`)).status).toBe(200);
});
