/**
 * `nydus-tool mount-server`: the data process of a node, started by the snapshotter. Not for people.
 *
 * @module
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { flock, LOCK } from "../ffi/libc.ts";
import { exitNow } from "../ffi/process.ts";
import { NydusError } from "../lib/base/error.ts";
import { EventLog } from "../lib/base/event-log.ts";
import { createLogger } from "../lib/base/log.ts";
import { askedCredentials, credentialSocket } from "../lib/credentials/server.ts";
import { type ControlServer, controlApp, serveControl } from "../lib/mount/control.ts";
import { parseController } from "../lib/mount/controller.ts";
import { ControllerWatch } from "../lib/mount/controller-watch.ts";
import { ImageMounts } from "../lib/mount/image-mounts.ts";
import { inheritedDescriptors } from "../lib/mount/inherited-descriptors.ts";
import { fetcherOpener } from "../lib/mount/open-fetcher.ts";
import { controlSocket, lockFile } from "../lib/mount/run-directory.ts";
import { dockerCredentials } from "../lib/registry/credentials.ts";
import type { Command } from "./command.ts";

/** Seconds without any mount after which the process ends; the snapshotter starts it again when needed. */
const IDLE_SECONDS = 3;
const REAP_MS = 500;
const LOCK_TIMEOUT_MS = 5000;
const LOCK_POLL_MS = 20;

export const mountServer: Command = {
  name: "mount-server",
  summary: "Serve image data to the kernel (started by other verbs)",
  operands: "",
  arity: [0, 0],
  hidden: true,
  flags: {
    "run-dir": { type: "string", value: "DIR", help: "where the control socket and the devices go" },
    "cache-dir": { type: "string", value: "DIR", help: "where chunks are cached" },
    "cache-size": {
      type: "string",
      value: "SIZE",
      help: "bytes of chunks that the cache may hold (no limit)",
    },
    idle: {
      type: "string",
      value: "SECONDS",
      help: `without any mount, end after this time (${IDLE_SECONDS})`,
    },
    controller: { type: "string", value: "JSON", help: "the process that starts this one again, and how" },
  },
  examples: [],
  async run(args, { signal, env }) {
    const runDirectory = args.string("run-dir");
    const cacheDirectory = args.string("cache-dir");
    if (runDirectory === undefined || cacheDirectory === undefined) {
      throw new NydusError("usage", 'Cannot run "mount-server": it needs --run-dir and --cache-dir');
    }
    const events = new EventLog(
      createLogger((line) => process.stderr.write(line), env.NYDUS_LOG === "debug" ? "debug" : "info"),
    );
    const log = events.logger;
    mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
    const lock = await lockAlone(runDirectory);
    try {
      await using mounts = new ImageMounts({
        runDirectory,
        cacheDirectory,
        cacheSize: args.size("cache-size"),
        fetcherOf: fetcherOpener(askedCredentials(credentialSocket(runDirectory), dockerCredentials())),
        log,
      });
      await mounts.restore(inheritedDescriptors(env, process.pid));
      const ending = new AbortController();
      const stopped = Promise.withResolvers<void>();
      const told = Promise.withResolvers<"told">();
      const umounts = new EventTarget();
      using controllers = new ControllerWatch(() => mounts.sessions, log);
      const controller = args.string("controller");
      if (controller !== undefined) controllers.register(parseController(JSON.parse(controller)));
      const app = controlApp(mounts, {
        controllers,
        events,
        stop: stopped.resolve,
        leave: () => told.resolve("told"),
        umounted: () => umounts.dispatchEvent(new Event("umount")),
        ending: ending.signal,
      });
      await using control = serveControl(controlSocket(runDirectory), app);
      signal.addEventListener("abort", () => told.resolve("told"));
      const seconds = Number(args.string("idle") ?? IDLE_SECONDS);
      const why = await Promise.race([
        stopped.promise,
        idle({ mounts, control, umounts }, seconds),
        told.promise,
      ]);
      // A service manager that stops everything, or an upgrade: what is mounted stays, for a successor.
      if (why === "told" && controllers.pid !== undefined) {
        log.info("the mount process leaves its mounts to a successor");
        control.retire();
        mounts.leave();
        exitNow(0);
      }
      log.info("the mount process ends");
      // Whoever waits for the end may remove the directory right after: first let go of what is in it.
      control.retire();
      await mounts[Symbol.asyncDispose]();
      ending.abort();
    } finally {
      closeSync(lock);
    }
  },
};

/** Two servers in one directory would fight over its mounts. The lock goes with the process; one that ends has a moment. */
async function lockAlone(runDirectory: string): Promise<number> {
  const fd = openSync(lockFile(runDirectory), "w", 0o600);
  for (let waited = 0; waited <= LOCK_TIMEOUT_MS; waited += LOCK_POLL_MS) {
    if (flock(fd, LOCK.EX | LOCK.NB) === 0) return fd;
    await Bun.sleep(LOCK_POLL_MS);
  }
  throw new NydusError("busy", `Cannot serve "${runDirectory}": another process does`);
}

interface Work {
  readonly mounts: ImageMounts;
  readonly control: ControlServer;
  readonly umounts: EventTarget;
}

/**
 * Resolves when nothing was mounted, nor on its way to be, for so many seconds. A process that was just started gets a
 * few more.
 */
async function idle({ mounts, control, umounts }: Work, seconds: number): Promise<void> {
  let left = Math.max(seconds, IDLE_SECONDS) * 1000;
  while (left >= 0) {
    const umounted = await umountWithin(umounts, REAP_MS);
    if ((await mounts.reap()) > 0) left = seconds * 1000;
    // A mount takes as long as its source does.
    else if (control.underWay > 0) continue;
    else if (umounted) left = seconds * 1000 - 1;
    else left -= REAP_MS;
  }
}

/** Whether somebody asked for an unmount before the time is over: then nobody need wait for the next look. */
async function umountWithin(umounts: EventTarget, ms: number): Promise<boolean> {
  const asked = Promise.withResolvers<boolean>();
  const onUmount = (): void => asked.resolve(true);
  umounts.addEventListener("umount", onUmount, { once: true });
  const timer = setTimeout(() => asked.resolve(false), ms);
  try {
    return await asked.promise;
  } finally {
    clearTimeout(timer);
    umounts.removeEventListener("umount", onUmount);
  }
}
