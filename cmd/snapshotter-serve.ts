/**
 * `nydus-tool snapshotter serve`: the snapshotter that containerd talks to. Image data is served by another process,
 * which this one starts and which outlives it: containers keep their files when the snapshotter is stopped.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { NydusError, toNydusError } from "../lib/base/error.ts";
import { createLogger, type Level, type Logger } from "../lib/base/log.ts";
import { ContainerdClient, DEFAULT_ADDRESS, DEFAULT_NAMESPACE } from "../lib/containerd/client.ts";
import { MountServer } from "../lib/mount/client.ts";
import { DRIVERS } from "../lib/mount/mount-request.ts";
import { DEFAULT_RUN_ROOT, removeRunDirectory } from "../lib/mount/run-directory.ts";
import type { Snapshot } from "../lib/snapshot/metastore.ts";
import { chainIdOf, findReferences } from "../lib/snapshot/resolve-reference.ts";
import { DEFAULT_SNAPSHOTTER_ADDRESS, serveSnapshots } from "../lib/snapshot/service.ts";
import { DEFAULT_ROOT, Snapshotter } from "../lib/snapshot/snapshotter.ts";
import { OperationRecorder } from "../lib/status/operations.ts";
import { serveStatus } from "../lib/status/serve.ts";
import type { SnapshotStatus } from "../lib/status/source.ts";
import { Arguments, type Command, type Context, type Flag } from "./command.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const satisfies readonly Level[];

const FLAGS: Readonly<Record<string, Flag>> = {
  config: { type: "string", value: "FILE", help: "TOML with these flags' names as keys; flags win" },
  root: { type: "string", value: "DIR", help: `snapshots, metadata and cache (${DEFAULT_ROOT})` },
  address: { type: "string", value: "SOCKET", help: `listen here (${DEFAULT_SNAPSHOTTER_ADDRESS})` },
  "containerd-address": {
    type: "string",
    value: "SOCKET",
    help: `containerd's socket, used when first needed (${DEFAULT_ADDRESS})`,
  },
  status: { type: "string", value: "ADDRESS", help: "serve status and metrics: host:port or unix:PATH" },
  driver: { type: "string", value: "NAME", help: `${DRIVERS.join(", ")} (auto: the first that works)` },
  "cache-dir": { type: "string", value: "DIR", help: "where chunks are kept (cache below root)" },
  "run-dir": { type: "string", value: "DIR", help: `where running mounts are found (${DEFAULT_RUN_ROOT})` },
  "plain-http": { type: "boolean", help: "talk http to registries (loopback needs no flag)" },
  insecure: { type: "boolean", help: "do not check registries' certificates" },
  "log-level": { type: "string", value: "LEVEL", help: `${LEVELS.join(", ")} (info)` },
};

export const snapshotterServe: Command = {
  name: "snapshotter serve",
  summary: "Serve containerd as a remote snapshotter",
  operands: "",
  arity: [0, 0],
  flags: FLAGS,
  examples: [
    ["nydus-tool snapshotter serve", "in containerd's config.toml: [proxy_plugins.nydus] type, address"],
    ["nydus-tool snapshotter serve --config /etc/nydus-tool.toml --status 127.0.0.1:9110", "with metrics"],
  ],
  async run(given, context) {
    if (process.getuid?.() !== 0)
      throw new NydusError("denied", "Cannot serve snapshots: mounting needs root");
    const args = await withConfig(given);
    await serve(args, context, logger(args));
  },
};

/** To the journal, whose reader wants to know what happened: more than other verbs say. */
function logger(args: Arguments): Logger {
  return createLogger((line) => process.stderr.write(line), args.choice("log-level", LEVELS, "info"));
}

async function serve(args: Arguments, { print, signal }: Context, log: Logger): Promise<void> {
  const root = resolve(args.string("root") ?? DEFAULT_ROOT);
  const runDirectory = join(resolve(args.string("run-dir") ?? DEFAULT_RUN_ROOT), runName(root));
  await using containerd = new ContainerdClient({
    address: args.string("containerd-address") ?? DEFAULT_ADDRESS,
    namespace: DEFAULT_NAMESPACE,
  });
  await using mounter = new MountServer({
    runDirectory,
    cacheDirectory: resolve(args.string("cache-dir") ?? join(root, "cache")),
    driver: args.choice("driver", DRIVERS, "auto"),
    plainHttp: args.boolean("plain-http"),
    insecure: args.boolean("insecure"),
    log,
  });
  const references = async (bootstrap: Snapshot, namespace?: string): Promise<readonly string[]> => {
    const chainId = chainIdOf(bootstrap);
    return chainId === undefined ? [] : await findReferences(containerd, chainId, namespace);
  };
  await using snapshotter = await Snapshotter.open({ root, mounter, findReferences: references, log });
  const operations = new OperationRecorder();
  const address = resolve(args.string("address") ?? DEFAULT_SNAPSHOTTER_ADDRESS);
  await mounter.attach();
  {
    await using _server = await serveSnapshots(snapshotter, address, { log, observe: operations.observe });
    await using status = optionalStatus(args, {
      mounts: () => mounter.list(),
      snapshots: async () => (await snapshotter.list()).map(statusOf),
      operations: () => operations.list(),
    });
    print(`serving snapshots at ${address}`);
    if (status !== undefined) print(`status at ${status.address}`);
    const restored = snapshotter.restore();
    await ended(signal);
    log.info("stopping; mounts of containers stay");
    await restored;
  }
  if ((await mounter.list()).length === 0) {
    await mounter.stop();
    removeRunDirectory(runDirectory);
  }
}

function optionalStatus(
  args: Arguments,
  source: Parameters<typeof serveStatus>[1],
): ReturnType<typeof serveStatus> | undefined {
  const address = args.string("status");
  return address === undefined ? undefined : serveStatus(address, source);
}

/** Two snapshotters of one machine have roots of their own. */
function runName(root: string): string {
  if (root === DEFAULT_ROOT) return "snapshotter";
  return `snapshotter-${createHash("sha256").update(root).digest("hex").slice(0, 8)}`;
}

function statusOf({
  id,
  name,
  parent,
  kind,
  layer,
  reference,
  namespace,
  created,
}: Snapshot): SnapshotStatus {
  return {
    namespace: namespace ?? "",
    name,
    parent,
    kind,
    layer,
    ...(reference === undefined ? {} : { reference }),
    id,
    createdAt: new Date(created).toISOString(),
  };
}

/** Being told to stop is how this verb ends well. */
async function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((done) => signal.addEventListener("abort", done, { once: true }));
}

/** Flags from a file below those of the command line. */
async function withConfig(args: Arguments): Promise<Arguments> {
  const path = args.string("config");
  if (path === undefined) return args;
  const values = parseConfigFile(await readText(path), path);
  const given = Object.entries(FLAGS).flatMap(([name, { type }]) => {
    const value = type === "boolean" ? args.boolean(name) || undefined : args.string(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  return new Arguments([], { ...values, ...Object.fromEntries(given) });
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  }
}

/** @throws usage for what is no flag, or has the wrong type: a typing error must not be silence */
export function parseConfigFile(text: string, path: string): Readonly<Record<string, string | boolean>> {
  const bad = (state: string): NydusError => new NydusError("usage", `Cannot use "${path}": ${state}`);
  let parsed: object;
  try {
    parsed = Bun.TOML.parse(text);
  } catch (error) {
    throw bad(`it is not TOML: ${error instanceof Error ? error.message : error}`);
  }
  const entries = Object.entries(parsed).map(
    ([key, value]: [string, unknown]): [string, string | boolean] => {
      const flag = key === "config" ? undefined : FLAGS[key];
      if (flag === undefined) throw bad(`there is no key "${key}"`);
      if (flag.type === "boolean" && typeof value === "boolean") return [key, value];
      if (flag.type === "string" && typeof value === "string") return [key, value];
      throw bad(`"${key}" must be a ${flag.type}`);
    },
  );
  return Object.fromEntries(entries);
}
