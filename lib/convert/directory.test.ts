import { linkSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { chmod, lchown, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readConverted } from "../../tests/support/converted-image.ts";
import { run } from "../../tests/support/process.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { convertDirectory } from "./directory.ts";

let directory: string;
let root: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "convert-dir-"));
  root = join(directory, "root");
  mkdirSync(root);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const FORMAT = { compressor: "zstd", digester: "sha256", chunkSize: 2 ** 16 } as const;

async function convert() {
  const store = new MemoryStore();
  const work = join(directory, "work");
  const options = { ...FORMAT, workDirectory: work, platform: { os: "linux", architecture: "riscv64" } };
  const report = await convertDirectory(root, { store, reference: "t" }, options);
  expect(readdirSync(work)).toEqual([]);
  const { entries, image } = await readConverted(store, "t");
  return { report, image, byPath: new Map(entries.map((entry) => [entry.path, entry])) };
}

test("convertDirectory() keeps kinds, owners, modes, times and links", async () => {
  writeFileSync(join(root, "big"), Buffer.alloc(200_000, "0123456789"));
  writeFileSync(join(root, "first"), "linked");
  linkSync(join(root, "first"), join(root, "second"));
  symlinkSync("/etc/shadow", join(root, "away"));
  mkdirSync(join(root, "dir"));
  await lchown(join(root, "away"), 7, 8);
  await run("mkfifo", [join(root, "pipe")]);
  await run("mknod", [join(root, "dir/char"), "c", "259", "70000"]);
  await run("mknod", [join(root, "dir/block"), "b", "8", "1"]);
  await chmod(join(root, "dir"), 0o2750);
  await run("touch", ["-d", "1960-01-01T00:00:00.25Z", join(root, "first")]);
  const { byPath } = await convert();
  const common = { uid: 0, gid: 0, xattrs: {} };
  expect([...byPath.keys()].sort()).toEqual(
    ["/", "/away", "/big", "/dir", "/dir/block", "/dir/char", "/first", "/pipe", "/second"].sort(),
  );
  expect(byPath.get("/first")).toMatchObject({ nlink: 2, link: "/first", mtime: [-315619200, 250_000_000] });
  expect(byPath.get("/second")).toMatchObject({ nlink: 2, link: "/first" });
  expect(byPath.get("/away")).toMatchObject({ type: "symlink", target: "/etc/shadow", uid: 7, gid: 8 });
  expect(byPath.get("/pipe")).toMatchObject({ ...common, type: "fifo" });
  expect(byPath.get("/dir/char")).toMatchObject({ type: "char", rdev: [259, 70000] });
  expect(byPath.get("/dir/block")).toMatchObject({ type: "block", rdev: [8, 1] });
  expect(byPath.get("/dir")).toMatchObject({ ...common, type: "dir", mode: 0o2750 });
  const data = Buffer.alloc(200_000, "0123456789");
  expect(byPath.get("/big")?.sha256).toBe(new Bun.CryptoHasher("sha256").update(data).digest("hex"));
});

test("convertDirectory() keeps xattrs of files, directories and links, but not the machine's own", async () => {
  mkdirSync(join(root, "dir"));
  writeFileSync(join(root, "file"), "x");
  symlinkSync("nowhere", join(root, "link"));
  const script = `import os, sys
r = os.fsencode(sys.argv[1])
os.setxattr(r + b"/dir", "user.on-dir", b"\\x00\\xff\\n")
os.setxattr(r + b"/file", "trusted.t", b"")
os.setxattr(r + b"/file", "trusted.overlay.opaque", b"y")
os.setxattr(r + b"/link", "trusted.on-link", b"l", follow_symlinks=False)
os.setxattr(r, "user.on-root", b"r")`;
  await run("python3", ["-c", script, root]);
  const { byPath } = await convert();
  expect(byPath.get("/dir")?.xattrs).toEqual({ "user.on-dir": "00ff0a" });
  expect(byPath.get("/file")?.xattrs).toEqual({ "trusted.t": "" });
  expect(byPath.get("/link")?.xattrs).toEqual({ "trusted.on-link": "6c" });
  expect(byPath.get("/")?.xattrs).toEqual({ "user.on-root": "72" });
});

test("convertDirectory() takes names as bytes, and leaves sockets out", async () => {
  const odd = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0x66, 0xff, 0x0a])]);
  writeFileSync(odd, "odd");
  const server = createServer().listen(join(root, "socket"));
  await new Promise((resolve) => server.once("listening", resolve));
  const { byPath } = await convert().finally(() => server.close());
  expect([...byPath.keys()]).toEqual(["/", "/f\xff\n"]);
});

test("convertDirectory() does not follow a link in the place of a directory inside", async () => {
  mkdirSync(join(directory, "outside"));
  writeFileSync(join(directory, "outside/secret"), "x");
  symlinkSync("../outside", join(root, "dir"));
  const { byPath } = await convert();
  expect(byPath.get("/dir")).toMatchObject({ type: "symlink", target: "../outside" });
  expect(byPath.has("/dir/secret")).toBe(false);
});

test("convertDirectory() makes a config for the platform, and the same bytes each time", async () => {
  writeFileSync(join(root, "file"), "x");
  const { image, report } = await convert();
  expect(image.config).toMatchObject({ os: "linux", architecture: "riscv64" });
  expect(image.config.history?.at(-1)).toEqual({
    created_by: "Nydus Converter",
    comment: "Nydus Bootstrap Layer",
  });
  expect((await convert()).report.targetDigest).toBe(report.targetDigest);
});

test("convertDirectory() says what is wrong with a path that is no directory", async () => {
  const target = { store: new MemoryStore(), reference: "t" };
  const missing = join(directory, "missing");
  await expect(convertDirectory(missing, target, FORMAT)).rejects.toMatchObject({
    code: "not_found",
    message: expect.stringContaining(`Cannot read directory "${missing}"`),
  });
  writeFileSync(join(directory, "file"), "x");
  await expect(convertDirectory(join(directory, "file"), target, FORMAT)).rejects.toMatchObject({
    code: "usage",
    message: expect.stringContaining("it is not a directory"),
  });
});
