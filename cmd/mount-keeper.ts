/**
 * The process behind `nydus-tool mount`: it keeps the one that serves the mount running, and ends with it. As a verb it
 * is what that one starts when this one was killed. Not for people.
 *
 * @module
 */
import { rmSync } from "node:fs";
import { NydusError } from "../lib/base/error.ts";
import { MountServer, type MountServerOptions } from "../lib/mount/client.ts";
import { inheritedDescriptors } from "../lib/mount/inherited-descriptors.ts";
import { keeperLog, removeRunDirectory } from "../lib/mount/run-directory.ts";
import { serveStatus } from "../lib/status/serve.ts";
import type { Command, Context } from "./command.ts";

interface Keeping {
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  /** Bytes of data in the cache; without it, as much as there is room. */
  readonly cacheSize: number | undefined;
  /** Where to serve status, if anywhere. */
  readonly status: string | undefined;
}

export const mountKeeper: Command = {
  name: "mount-keeper",
  summary: "Keep a mount's serving process running (started by other verbs)",
  operands: "",
  arity: [0, 0],
  hidden: true,
  flags: {
    "run-dir": { type: "string", value: "DIR", help: "of the serving process" },
    "cache-dir": { type: "string", value: "DIR", help: "where chunks are cached" },
    "cache-size": { type: "string", value: "SIZE", help: "bytes of chunks that the cache may hold" },
    status: { type: "string", value: "ADDRESS", help: "serve status and metrics" },
  },
  examples: [],
  async run(args, context) {
    const runDirectory = args.string("run-dir");
    const cacheDirectory = args.string("cache-dir");
    if (runDirectory === undefined || cacheDirectory === undefined)
      throw new NydusError("usage", 'Cannot run "mount-keeper": it needs --run-dir and --cache-dir');
    const cacheSize = args.size("cache-size");
    const keeping = { runDirectory, cacheDirectory, cacheSize, status: args.string("status") };
    await using server = keptServer(keeping, context);
    if (!(await server.attach())) {
      // Its mount was unmounted while we were started, and it ended.
      forgetRunDirectory(runDirectory);
      throw new NydusError("unavailable", `Cannot keep "${runDirectory}": nobody serves it any more`);
    }
    await keepUntilEnd(server, keeping, context);
  },
};

export function keptServer(
  { runDirectory, cacheDirectory, cacheSize, status }: Keeping,
  { log, env }: Context,
): MountServer {
  const inherited = inheritedDescriptors(env, process.pid);
  const options: Omit<MountServerOptions, "resumeWith"> = {
    runDirectory,
    cacheDirectory,
    cacheSize,
    driver: "auto",
    idleSeconds: 0,
    inherited,
    log,
  };
  const words = ["mount-keeper", "--run-dir", runDirectory, "--cache-dir", cacheDirectory];
  if (cacheSize !== undefined) words.push("--cache-size", `${cacheSize}`);
  if (status !== undefined) words.push("--status", status);
  return new MountServer({ ...options, restartWith: words, resumeWith: words });
}

/** Returns when the mount is gone: unmounted by somebody, or by us because we were told to stop. */
export async function keepUntilEnd(server: MountServer, keeping: Keeping, context: Context): Promise<void> {
  const { runDirectory, status } = keeping;
  await using _status =
    status === undefined
      ? undefined
      : serveStatus(status, {
          mounts: () => server.list(),
          reads: (id) => server.reads(id),
          events: () => server.events(),
          broken: () => server.broken(),
          caches: () => server.caches(),
        });
  try {
    const { signal } = context;
    const interrupted = new Promise<void>((done) => signal.addEventListener("abort", () => done()));
    if (!signal.aborted) await Promise.race([server.ended, interrupted]);
  } finally {
    await endMount(server, runDirectory);
  }
}

export async function endMount(server: MountServer, runDirectory: string): Promise<void> {
  await server.stop();
  forgetRunDirectory(runDirectory);
}

function forgetRunDirectory(runDirectory: string): void {
  removeRunDirectory(runDirectory);
  rmSync(keeperLog(runDirectory), { force: true });
}
