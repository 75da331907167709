import { existsSync } from "node:fs";
import { lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../tests/support/process.ts";
import { SnapshotDirectories } from "./directories.ts";

let root: string;
let directories: SnapshotDirectories;
beforeEach(async () => {
  root = await mkdtemp("/tmp/nt-dirs-");
  directories = new SnapshotDirectories(root);
});
afterEach(() => rm(root, { recursive: true, force: true }));

test("SnapshotDirectories keeps other users out, whatever modes layers have", async () => {
  directories.create(1, { work: true });
  expect((await lstat(`${root}/snapshots`)).mode & 0o777).toBe(0o700);
  expect((await lstat(directories.files(1))).mode & 0o777).toBe(0o755);
  expect((await lstat(directories.work(1))).mode & 0o777).toBe(0o711);
});

test.each(["/tmp/a,b", "/tmp/a:b", "relative", '/tmp/a"b', "/tmp/a\\b"])(
  "SnapshotDirectories refuses root %j",
  (path) => {
    expect(() => new SnapshotDirectories(path)).toThrow(expect.objectContaining({ code: "usage" }));
  },
);

test("create() replaces the directory of a row that was never committed", async () => {
  directories.create(1, { work: false });
  await writeFile(`${directories.files(1)}/old`, "");
  directories.create(1, { work: true });
  expect(await readdir(directories.files(1))).toEqual([]);
  await directories.emptyTrash();
  expect(await readdir(`${root}/trash`)).toEqual([]);
});

test("discard() deletes trees with names of any bytes and follows no link", async () => {
  directories.create(1, { work: true });
  const outside = `${root}/outside`;
  await mkdir(outside);
  await writeFile(`${outside}/precious`, "");
  await symlink(outside, `${directories.files(1)}/link`);
  const odd = Buffer.concat([Buffer.from(`${directories.files(1)}/`), Buffer.from([0xff, 0xfe])]);
  await mkdir(odd);
  await writeFile(Buffer.concat([odd, Buffer.from("/x")]), "");
  await directories.discard("1");
  expect(await readdir(`${root}/snapshots`)).toEqual([]);
  expect(await readdir(`${root}/trash`)).toEqual([]);
  expect(existsSync(`${outside}/precious`)).toBe(true);
  await directories.discard("1");
});

test("discard() refuses while something is mounted below", async () => {
  directories.create(1, { work: false });
  const mountpoint = await directories.createMountpoint(1);
  await run("mount", ["-t", "tmpfs", "nydus-test", mountpoint]);
  try {
    await expect(directories.discard("1")).rejects.toMatchObject({ code: "busy" });
    expect(existsSync(directories.files(1))).toBe(true);
  } finally {
    await run("umount", [mountpoint]);
  }
  await directories.discard("1");
  expect(existsSync(mountpoint)).toBe(false);
});

test("bootstrap() takes a regular file in a real directory only", async () => {
  directories.create(1, { work: false });
  const files = directories.files(1);
  const refused = { code: "corrupt", message: expect.stringContaining("image/image.boot") };
  await expect(directories.bootstrap(1)).rejects.toMatchObject(refused);

  await mkdir(`${root}/outside`);
  await writeFile(`${root}/outside/image.boot`, "");
  await symlink(`${root}/outside`, `${files}/image`);
  await expect(directories.bootstrap(1)).rejects.toMatchObject(refused);
  await rm(`${files}/image`);

  await mkdir(`${files}/image`);
  await symlink(`${root}/outside/image.boot`, `${files}/image/image.boot`);
  await expect(directories.bootstrap(1)).rejects.toMatchObject(refused);
  await rm(`${files}/image/image.boot`);

  await writeFile(`${files}/image/image.boot`, "");
  expect(await directories.bootstrap(1)).toBe(`${files}/image/image.boot`);
});

test("orphans() names directories without a row", async () => {
  for (const id of [1, 2]) directories.create(id, { work: false });
  await mkdir(`${root}/snapshots/new-123`);
  expect((await directories.orphans(new Set([2]))).toSorted()).toEqual(["1", "new-123"]);
});
