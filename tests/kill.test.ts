/**
 * Killing a process behind a mount costs its readers time, and nothing else.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { killOne, noneServes, sumOf, sumsDuring } from "./support/readers.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace } from "./support/workspace.ts";

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
});
