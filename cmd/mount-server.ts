/**
 * `nydus-tool mount-server`: the data process of a node, started by the snapshotter. Not for people.
 *
 * @module
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { flock, LOCK } from "../ffi/libc.ts";
import { NydusError } from "../lib/base/error.ts";
import { createLogger } from "../lib/base/log.ts";
import { controlSocket } from "../lib/mount/client.ts";
import { controlApp, serveControl } from "../lib/mount/control.ts";
import { ImageMounts } from "../lib/mount/image-mounts.ts";
import { openFetcher } from "../lib/mount/open-fetcher.ts";
import type { Command } from "./command.ts";

/** Seconds without any mount after which the process ends; the snapshotter starts it again when needed. */
const IDLE_SECONDS = 3;
const REAP_MS = 500;

export const mountServer: Command = {
  name: "mount-server",
  summary: "Serve image data to the kernel (started by other verbs)",
  operands: "",
  arity: [0, 0],
  hidden: true,
  flags: {
    "run-dir": { type: "string", value: "DIR", help: "where the control socket and the devices go" },
    "cache-dir": { type: "string", value: "DIR", help: "where chunks are cached" },
    idle: {
      type: "string",
      value: "SECONDS",
      help: `without any mount, end after this time (${IDLE_SECONDS})`,
    },
    adopt: { type: "string", value: "JSON", help: "descriptors of a dead process's file systems, by name" },
  },
  examples: [],
  async run(args, { signal, env }) {
    const runDirectory = args.string("run-dir");
    const cacheDirectory = args.string("cache-dir");
    if (runDirectory === undefined || cacheDirectory === undefined) {
      throw new NydusError("usage", 'Cannot run "mount-server": it needs --run-dir and --cache-dir');
    }
    const log = createLogger(
      (line) => process.stderr.write(line),
      env.NYDUS_LOG === "debug" ? "debug" : "info",
    );
    mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
    const lock = lockAlone(runDirectory);
    try {
      await using mounts = new ImageMounts({ runDirectory, cacheDirectory, fetcherOf: openFetcher, log });
      await mounts.restore(parseAdopted(args.string("adopt")));
      const ending = new AbortController();
      const stopped = Promise.withResolvers<void>();
      const app = controlApp(mounts, { stop: stopped.resolve, ending: ending.signal });
      await using _control = serveControl(controlSocket(runDirectory), app);
      signal.addEventListener("abort", () => stopped.resolve());
      await Promise.race([stopped.promise, idle(mounts, Number(args.string("idle") ?? IDLE_SECONDS))]);
      ending.abort();
      log.info("the mount process ends");
    } finally {
      closeSync(lock);
    }
  },
};

/** Two servers in one directory would fight over its mounts. The lock goes with the process. */
function lockAlone(runDirectory: string): number {
  const fd = openSync(join(runDirectory, "lock"), "w", 0o600);
  if (flock(fd, LOCK.EX | LOCK.NB) === 0) return fd;
  throw new NydusError("busy", `Cannot serve "${runDirectory}": another process does`);
}

function parseAdopted(text: string | undefined): ReadonlyMap<string, number> {
  if (text === undefined) return new Map();
  const entries = Object.entries(JSON.parse(text) as Record<string, unknown>);
  return new Map(entries.flatMap(([key, fd]) => (typeof fd === "number" ? [[key, fd] as const] : [])));
}

/** Resolves when nothing was mounted for so many seconds. A process that was just started gets a few more. */
async function idle(mounts: ImageMounts, seconds: number): Promise<void> {
  let left = Math.max(seconds, IDLE_SECONDS) * 1000;
  while (left >= 0) {
    await Bun.sleep(REAP_MS);
    if ((await mounts.reap()) > 0) left = seconds * 1000;
    else left -= REAP_MS;
  }
}
