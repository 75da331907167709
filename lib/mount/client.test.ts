import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { flock, LOCK } from "../../ffi/libc.ts";
import { createLogger } from "../base/log.ts";
import { MountServer } from "./client.ts";
import { type ControlServer, controlApp, serveControl } from "./control.ts";
import { ControlClient } from "./control-client.ts";
import type { Controller } from "./controller.ts";
import type { ImageMounts } from "./image-mounts.ts";
import { controlSocket, lockFile } from "./run-directory.ts";
import { startServer } from "./start-server.ts";

interface Place {
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  readonly log: string[];
}

function place(): Place {
  const directory = mkdtempSync(join(tmpdir(), "nydus-client-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const runDirectory = join(directory, "run");
  mkdirSync(runDirectory);
  return { runDirectory, cacheDirectory: join(directory, "cache"), log: [] };
}

function mountServer({ runDirectory, cacheDirectory, log }: Place, inherited = new Map<string, number>()) {
  const server = new MountServer({
    ...{ runDirectory, cacheDirectory, inherited },
    driver: "auto",
    idleSeconds: 0,
    resumeWith: [],
    log: createLogger((line) => log.push(line)),
  });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

/** As a process that serves, or is about to. @returns how to let go */
function locked({ runDirectory }: Place): () => void {
  const fd = openSync(lockFile(runDirectory), "w");
  expect(flock(fd, LOCK.EX | LOCK.NB)).toBe(0);
  let held = true;
  const release = (): void => {
    if (held) closeSync(fd);
    held = false;
  };
  onTestFinished(release);
  return release;
}

/** This process answers as one that serves a mount. */
function answering({ runDirectory }: Place): { control: ControlServer; controllers: Controller[] } {
  const controllers: Controller[] = [];
  const ending = new AbortController();
  const mounts = { sessions: new Map(), list: () => [{ id: "a" }] } as unknown as ImageMounts;
  const control = serveControl(
    controlSocket(runDirectory),
    controlApp(mounts, {
      stop: () => {},
      leave: () => {},
      controllers: { pid: undefined, register: (one) => controllers.push(one), release: () => {} },
      ending: ending.signal,
    }),
  );
  onTestFinished(async () => {
    ending.abort();
    await control[Symbol.asyncDispose]();
  });
  return { control, controllers };
}

test("MountServer.attach() goes on trying when the process that it starts dies, too", async () => {
  const own = place();
  writeFileSync(own.cacheDirectory, "in the way: whoever starts with this cache ends at once");
  const server = mountServer(own, new Map([["fuse-0", openSync("/dev/null", "r")]]));
  expect(await server.attach()).toBe(true);
  expect(own.log.join("\n")).toContain("it did not become ready");
  rmSync(own.cacheDirectory);
  const client = new ControlClient(controlSocket(own.runDirectory));
  const answers = () => client.ping().catch(() => 0);
  await expect.poll(answers, { timeout: 30_000 }).toBeGreaterThan(0);
  await server.stop();
}, 60_000);

test("MountServer.attach() waits for a process that somebody else has started", async () => {
  const own = place();
  const release = locked(own);
  const server = mountServer(own);
  const attached = server.attach();
  await Bun.sleep(100);
  const { controllers } = answering(own);
  expect(await attached).toBe(true);
  expect(controllers).toEqual([{ pid: process.pid }]);
  release();
});

test("MountServer.attach() does not wait for a process that dies instead", async () => {
  const own = place();
  const release = locked(own);
  const attached = mountServer(own).attach();
  release();
  expect(await attached).toBe(false);
});

test("MountServer.attach() starts a process for mounts of cache files, which need no descriptor", async () => {
  const own = place();
  const [bootstrap, mountpoint] = [join(own.runDirectory, "none.boot"), join(own.runDirectory, "mnt")];
  const request = { id: "a", bootstrap, mountpoint, source: { location: "blobs:/none" }, driver: "auto" };
  const mount = { request, driver: "erofs", driverReason: "", imageDirectory: mountpoint, devices: [0] };
  const state = { nextNumber: 1, mounts: [{ ...mount, directBlobs: ["b"], session: "" }] };
  writeFileSync(join(own.runDirectory, "state.json"), JSON.stringify(state));
  const server = mountServer(own);
  expect(await server.attach()).toBe(true);
  expect(own.log.join("\n")).toContain("started the mount process");
  await server.stop();
}, 60_000);

test("MountServer.list() takes control of a process that was not there before", async () => {
  const own = place();
  const server = mountServer(own);
  expect(await server.attach()).toBe(false);
  expect(await server.list()).toEqual([]);
  const { controllers } = answering(own);
  expect(await server.list()).toEqual([{ id: "a" }]);
  expect(await server.list()).toEqual([{ id: "a" }]);
  expect(controllers).toEqual([{ pid: process.pid }]);
});

test("startServer() names the process that answers, and leaves no second one", async () => {
  const own = place();
  locked(own);
  const { control } = answering(own);
  const setup = { ...own, controller: { pid: process.pid }, kept: new Map<string, number>() };
  expect(await startServer(new ControlClient(control.socket), setup)).toBe(process.pid);
});
