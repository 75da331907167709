/**
 * Killing a process behind a mount costs its readers time, and nothing else.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run, waitFor } from "./support/process.ts";
import { dropCaches, killOne, noneServes, processesThat, sumOf, sumsDuring } from "./support/readers.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

describe.each(["erofs", "fuse"] as const)("driver %s", (driver) => {
  let place: Workspace;
  let image: string;

  beforeAll(async () => {
    place = await openWorkspace();
    await writeLayout(place.path("source"), makeImage(401).layers.map(tarOf));
    image = `${(await startEmbeddedRegistry(place)).host}/made/image:nydus`;
    await place.tool(["convert", `oci:${place.path("source")}:t`, image]);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  test("readers see every byte while either process is killed, in turn", async () => {
    const mountpoint = await place.mount(image, { driver, cache: place.path("cache") });
    const expected = await sumOf(mountpoint);
    const sums = await sumsDuring(place, mountpoint, async () => {
      for (const which of ["server", "controller", "server", "controller", "controller", "server"] as const)
        await killOne(place, which);
    });
    expect(sums).toEqual([expected]);
    await place.umount(mountpoint);
    await noneServes(place);
  });

  test("a server that is killed while it starts is started again, also by a controller that has just started", async () => {
    const mountpoint = await place.mount(image, { driver, cache: place.path("cache") });
    const expected = await sumOf(mountpoint);
    const sums = await sumsDuring(place, mountpoint, async () => {
      for (const which of ["controller", "server", "server", "server"] as const) await killOne(place, which);
    });
    expect(sums).toEqual([expected]);
    await place.umount(mountpoint);
    await noneServes(place);
  });

  test("an empty cache is filled across kills without a wrong byte", async () => {
    const warm = await place.mount(image, { driver, cache: place.path("cache") });
    const expected = await sumOf(warm);
    await place.umount(warm);
    const mountpoint = await place.mount(image, { driver, cache: place.path("cold") });
    const reading = sumOf(mountpoint);
    await killOne(place, "server");
    await killOne(place, "controller");
    expect(await reading).toBe(expected);
    await place.umount(mountpoint);
  });

  test("when both die at once readers get errors, never zeros; a new mount takes the place and all is tidied up", async () => {
    const own = await workspace();
    const healthy = await own.mount(image, { driver, cache: place.path("cache") });
    const expected = await sumOf(healthy);
    await own.umount(healthy);
    const mountpoint = await own.mount(image, { driver, cache: own.path("cold") });
    for (const which of ["controller", "server"] as const)
      for (const pid of await processesThat(own, which)) process.kill(pid, "SIGKILL");
    await dropCaches();
    const { stdout, code } = await run("sh", ["-c", `cat ${mountpoint}/data/*`], { mayFail: true });
    expect(code).not.toBe(0);
    expect(stdout).toBe("");
    const status = (await own.tool(["status", "--run-dir", own.path("run")])).stdout;
    expect(status).toContain(`BROKEN ${image}\n  at       ${mountpoint}\n`);
    await own.tool([...own.mountWords({ driver, cache: own.path("cold") }), "--detach", image, mountpoint]);
    expect(await sumOf(mountpoint)).toBe(expected);
    expect((await own.tool(["status", "--run-dir", own.path("run")])).stdout).not.toContain("BROKEN");
    await own.umount(mountpoint);
    await expect.poll(() => readdir(own.path("run")), { timeout: 10_000 }).toEqual([]);
    expect(own.mounts()).toEqual([]);
  });

  test("processes that are killed while they mount are gone at once", async () => {
    const own = await workspace();
    await mkdir(own.path("mnt"));
    for (let attempt = 0; attempt < 6; attempt++) {
      const words = [...own.mountWords({ driver, cache: place.path("cache") }), image, own.path("mnt")];
      const service = own.start(`mount-${attempt}`, words);
      await waitFor("the server", async () => (await processesThat(own, "server")).length > 0, { service });
      await Bun.sleep(15 * attempt);
      const pids = [service.pid, ...(await processesThat(own, "server"))];
      for (const pid of pids) process.kill(pid, "SIGKILL");
      await service.stop();
      await waitFor("both to be gone", () => pids.every((pid) => !existsSync(`/proc/${pid}`)), {
        seconds: 20,
      });
      await own.tool(["umount", "--run-dir", own.path("run"), own.path("mnt")], { mayFail: true });
    }
  });

  test("umount tidies up after a mount whose processes both died", async () => {
    const own = await workspace();
    const mountpoint = await own.mount(image, { driver });
    for (const which of ["controller", "server"] as const)
      for (const pid of await processesThat(own, which)) process.kill(pid, "SIGKILL");
    await own.umount(mountpoint);
    expect(await readdir(own.path("run"))).toEqual([]);
    expect(own.mounts()).toEqual([]);
  });
});
