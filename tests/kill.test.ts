/**
 * Killing the process that serves a mount costs its readers time, and nothing else.
 */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { run, waitFor } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

const KILLS = 3;
/** Every file's content and name, in one line. */
const SUM = "find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";

async function serverOf(mountpoint: string): Promise<number> {
  const { stdout } = await run("pgrep", ["-f", `mount-server --run-dir ${mountpoint}`]);
  return Number(stdout.trim().split("\n")[0]);
}

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

  test("a checksum of the whole tree is the same with SIGKILLs in the middle", async () => {
    const mountpoint = await place.mount(image, { driver, cache: place.path("cache") });
    const expected = (await run("sh", ["-c", SUM], { cwd: mountpoint })).stdout;
    expect(expected).not.toContain(createHash("sha256").update("").digest("hex"));
    for (let kill = 0; kill < KILLS; kill++) {
      const before = await serverOf(place.path("run"));
      process.kill(before, "SIGKILL");
      // New reads wait for the successor; caches are dropped so that they really ask.
      await run("sh", ["-c", "echo 3 > /proc/sys/vm/drop_caches"]);
      expect((await run("sh", ["-c", SUM], { cwd: mountpoint })).stdout).toBe(expected);
      await waitFor("a successor", async () => (await serverOf(place.path("run"))) !== before);
    }
    await place.umount(mountpoint);
  });

  test("an empty cache is filled across SIGKILLs without a wrong byte", async () => {
    const warm = await place.mount(image, { driver, cache: place.path("cache") });
    const expected = (await run("sh", ["-c", SUM], { cwd: warm })).stdout;
    await place.umount(warm);
    const mountpoint = await place.mount(image, { driver, cache: place.path("cold") });
    const reading = run("sh", ["-c", SUM], { cwd: mountpoint });
    process.kill(await serverOf(place.path("run")), "SIGKILL");
    expect((await reading).stdout).toBe(expected);
    await place.umount(mountpoint);
  });
});
