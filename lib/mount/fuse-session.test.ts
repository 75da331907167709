import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { run, waitFor } from "../../tests/support/process.ts";
import { quietLogger } from "../base/log.ts";
import { BlobCache } from "../blob/cache.ts";
import type { BlobReader } from "../blob/reader.ts";
import { readyMap } from "../blob/ready-map.ts";
import { sampleBlob } from "../blob/sample-blob.test-support.ts";
import { Broken } from "../rafs/broken-bootstrap.test-support.ts";
import { sampleTree } from "../rafs/sample-tree.test-support.ts";
import { writeBootstrap } from "../rafs/writer.ts";
import { FuseSession } from "./fuse-session.ts";
import { FuseThreads } from "./fuse-threads.ts";

const TRIES = 10;

function fuseThreads(): FuseThreads {
  const threads = new FuseThreads();
  onTestFinished(() => threads[Symbol.asyncDispose]());
  return threads;
}

/** A file system whose data comes when `data` resolves. */
async function mountWaiting(directory: string, data: Promise<void>) {
  const mountpoint = join(directory, "mnt");
  mkdirSync(mountpoint);
  const { map } = await sampleBlob({ chunks: 4, size: 20_000 });
  const cache = new BlobCache(join(directory, "cache"));
  const { fd, view } = cache.open(map);
  const counters = new Uint32Array(new SharedArrayBuffer(8));
  const touched = readyMap(map.uncompressedSize);
  const device = { index: 0, name: "0", fd, view, size: map.uncompressedSize, touched, counters };
  let reads = 0;
  const read = (): Promise<void> => {
    reads++;
    return data;
  };
  const session = FuseSession.mount({
    ...{
      name: "fuse-0",
      mountpoint,
      source: "test",
      allowOther: false,
      threads: fuseThreads(),
      log: quietLogger,
    },
    devices: [device],
    readers: new Map([[0, { read } as unknown as BlobReader]]),
  });
  const reading = run("cat", [join(mountpoint, "0")], { mayFail: true });
  await waitFor("a read", () => reads > 0);
  return { session, reading, [Symbol.dispose]: () => cache[Symbol.dispose]() };
}

/** Opens it until it has that descriptor's number. @returns whether it got it before somebody else */
function openAs(path: string, fd: number): boolean {
  for (let last = -1; last < fd; ) {
    last = openSync(path, "r+");
    onTestFinished(() => closeSync(last));
    if (last === fd) return true;
  }
  return false;
}

/** @returns undefined when another thread of this process took the number */
async function lateReply(): Promise<string | undefined> {
  const directory = mkdtempSync(join(tmpdir(), "nydus-fuse-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const other = join(directory, "other");
  writeFileSync(other, "");
  const data = Promise.withResolvers<void>();
  using mounted = await mountWaiting(directory, data.promise);
  await mounted.session.unmount({ force: true });
  const taken = openAs(other, mounted.session.descriptor);
  data.resolve();
  expect((await mounted.reading).code).not.toBe(0);
  // After everything that the data's arrival sets off.
  await setImmediate();
  return taken ? readFileSync(other, "latin1") : undefined;
}

test("data that comes after the unmount is written to no other file", async () => {
  let written: string | undefined;
  for (let tries = 0; written === undefined && tries < TRIES; tries++) written = await lateReply();
  expect(written).toBe("");
});

test("threads serve one file system after another, and let go of each one's bootstrap", async () => {
  const directory = mkdtempSync(join(tmpdir(), "nydus-fuse-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const mountpoint = join(directory, "mnt");
  mkdirSync(mountpoint);
  const threads = fuseThreads();
  const { root, blobs } = sampleTree();
  for (const name of ["fuse-1", "fuse-2", "fuse-3"]) {
    const bootstrap = join(directory, `${name}.boot`);
    writeFileSync(bootstrap, writeBootstrap(root, blobs.options));
    const session = FuseSession.mount({
      ...{ name, mountpoint, source: "test", allowOther: false, threads, log: quietLogger },
      ...{ bootstrap, devices: [], readers: new Map() },
    });
    const { stdout } = await run("find", [mountpoint, "-maxdepth", "1", "-printf", "."]);
    expect(stdout).toHaveLength(root.entries.size + 1);
    const isHeld = (): boolean => readFileSync("/proc/self/maps", "utf8").includes(bootstrap);
    expect(isHeld()).toBe(true);
    await session.unmount();
    expect(isHeld()).toBe(false);
  }
});

test("a request that no thread can answer fails alone, and hangs nobody", async () => {
  const directory = mkdtempSync(join(tmpdir(), "nydus-fuse-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const mountpoint = join(directory, "mnt");
  mkdirSync(mountpoint);
  // Files are checked when they are mounted; this one changed since.
  const broken = new Broken();
  broken.view.setBigUint64(broken.entry("many"), 0x7fff_ffffn, true);
  const bootstrap = join(directory, "image.boot");
  writeFileSync(bootstrap, broken.bytes);
  const errors: string[] = [];
  const log = { ...quietLogger, error: (message: string): void => void errors.push(message) };
  const session = FuseSession.mount({
    ...{ name: "fuse-4", mountpoint, source: "test", allowOther: false, threads: fuseThreads(), log },
    ...{ bootstrap, devices: [], readers: new Map() },
  });
  onTestFinished(() => session.unmount({ force: true }));
  // More often than there are threads.
  for (let i = 0; i < 5; i++) {
    const { stderr } = await run("stat", [join(mountpoint, "many")], { mayFail: true });
    expect(stderr).toContain("Input/output error");
  }
  const { stdout } = await run("stat", ["--format=%n", join(mountpoint, "!before-dot")]);
  expect(stdout).toContain("!before-dot");
  await waitFor("all errors to be logged", () => errors.length === 5);
});
