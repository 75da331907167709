/**
 * Another version of the program takes over while readers read: they only wait, and when it is no good, the old one
 * goes on.
 */
import { chmod, copyFile, readlink, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { writeLayout } from "./support/oci-layout.ts";
import { dropCaches, killOne, noneServes, processesThat, sumOf, sumsDuring } from "./support/readers.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, TOOL, type Workspace } from "./support/workspace.ts";

let place: Workspace;
let image: string;

beforeAll(async () => {
  place = await openWorkspace();
  await writeLayout(place.path("source"), makeImage(402).layers.map(tarOf));
  image = `${(await startEmbeddedRegistry(place)).host}/made/image:n`;
  await place.tool(["convert", `oci:${place.path("source")}:t`, image]);
  await copyFile(TOOL, place.path("next"));
});
afterAll(() => place[Symbol.asyncDispose]());

const both = async () => [
  ...(await processesThat(place, "server")),
  ...(await processesThat(place, "controller")),
];
const programs = async () => Promise.all((await both()).map((pid) => readlink(`/proc/${pid}/exe`)));
const upgradeTo = (binary: string) =>
  place.tool(["upgrade", "--run-dir", place.path("run"), "--binary", binary, "--json"], { mayFail: true });

async function script(name: string, text: string): Promise<string> {
  await writeFile(place.path(name), `#!/bin/sh\n[ "$1" = version ] && exec ${TOOL} version\n${text}\n`);
  await chmod(place.path(name), 0o755);
  return place.path(name);
}

describe.each(["erofs", "fuse"] as const)("driver %s", (driver) => {
  test("readers see every byte while both processes become another version, and that one survives kills", async () => {
    const mountpoint = await place.mount(image, { driver, cache: place.path(driver) });
    const expected = await sumOf(mountpoint);
    const [controller] = await processesThat(place, "controller");
    const sums = await sumsDuring(place, mountpoint, async () => {
      const { stdout, stderr } = await upgradeTo(place.path("next"));
      expect(stderr).toBe("");
      expect(JSON.parse(stdout).processes).toEqual([expect.objectContaining({ result: "upgraded" })]);
      expect(await programs()).toEqual([place.path("next"), place.path("next")]);
      expect(await processesThat(place, "controller")).toEqual([controller]);
      await killOne(place, "server");
      await killOne(place, "controller");
      expect(await programs()).toEqual([place.path("next"), place.path("next")]);
    });
    expect(sums).toEqual([expected]);
    const again = await upgradeTo(place.path("next"));
    expect(JSON.parse(again.stdout).processes).toEqual([expect.objectContaining({ result: "current" })]);
    await place.umount(mountpoint);
    await noneServes(place);
  });

  test("readers see every byte when the other version does not come up, and the old one goes on", async () => {
    const mountpoint = await place.mount(image, { driver, cache: place.path(driver) });
    const expected = await sumOf(mountpoint);
    const before = await programs();
    const sums = await sumsDuring(place, mountpoint, async () => {
      const { stdout, stderr, code } = await upgradeTo(await script("broken", "exit 1"));
      expect(code).toBe(12);
      expect(stderr).toContain("the old version serves again");
      expect(JSON.parse(stdout).processes).toEqual([expect.objectContaining({ result: "back" })]);
    });
    expect(sums).toEqual([expected]);
    expect(await programs()).toEqual(before);
    await place.umount(mountpoint);
    await noneServes(place);
  });
});

test("upgrade touches nothing when the file is no program of ours", async () => {
  const mountpoint = await place.mount(image);
  const before = await both();
  const words = ["upgrade", "--run-dir", place.path("run"), "--binary"];
  const { code, stderr } = await place.tool([...words, "/bin/true"], { mayFail: true });
  expect(code).toBe(14);
  expect(stderr).toContain('Cannot upgrade to "/');
  expect(await both()).toEqual(before);
  await dropCaches();
  await sumOf(mountpoint);
  await place.umount(mountpoint);
  await noneServes(place);
});
