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
import { sampleTree } from "../rafs/sample-tree.test-support.ts";
import { writeBootstrap } from "../rafs/writer.ts";
import { FuseSession } from "./fuse-session.ts";

const TRIES = 10;

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
    ...{ name: "fuse-0", mountpoint, source: "test", allowOther: false, threads: 2, log: quietLogger },
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

test("a file system that is gone no longer holds its bootstrap", async () => {
  const directory = mkdtempSync(join(tmpdir(), "nydus-fuse-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const [bootstrap, mountpoint] = [join(directory, "image.boot"), join(directory, "mnt")];
  const { root, blobs } = sampleTree();
  writeFileSync(bootstrap, writeBootstrap(root, blobs.options));
  mkdirSync(mountpoint);
  const session = FuseSession.mount({
    ...{ name: "fuse-0", mountpoint, source: "test", allowOther: false, threads: 2, log: quietLogger },
    ...{ bootstrap, devices: [], readers: new Map() },
  });
  const isHeld = (): boolean => readFileSync("/proc/self/maps", "utf8").includes(bootstrap);
  await waitFor("threads to map it", isHeld);
  await session.unmount();
  expect(isHeld()).toBe(false);
});
