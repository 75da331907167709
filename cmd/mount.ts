/**
 * `nydus-tool mount`: an image or a bootstrap becomes a directory.
 *
 * @module
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { NydusError } from "../lib/base/error.ts";
import { isRoot, PROGRAM_NAME, selfCommand } from "../lib/base/self.ts";
import type { Adopt } from "../lib/image/adopted.ts";
import { adoptImage } from "../lib/layers/adopt.ts";
import { adoptedPlace } from "../lib/layers/adopted-place.ts";
import { CACHE_DIRECTORY_HELP, defaultCacheDirectory } from "../lib/mount/default-directories.ts";
import { checkUserMay } from "../lib/mount/fusermount.ts";
import { fetchBootstrap } from "../lib/mount/image-files.ts";
import {
  DRIVERS,
  type ImageSource,
  type MountRequest,
  type MountStatus,
} from "../lib/mount/mount-request.ts";
import { mountAt, realPlace } from "../lib/mount/mount-table.ts";
import { blobsLocation } from "../lib/mount/open-fetcher.ts";
import { findBroken, findMounts, keeperLog, sweepRunDirectories } from "../lib/mount/run-directory.ts";
import { readTrace } from "../lib/mount/traces.ts";
import { type Arguments, type Command, type Context, SilentExit } from "./command.ts";
import { ALLOW_UNVERIFIED_FLAG } from "./image-flags.ts";
import { endMount, keepUntilEnd, keptServer } from "./mount-keeper.ts";
import { CONTAINERD_FLAGS, prefetchPolicy, SOURCE_FLAGS, sourceAccess } from "./registry-flags.ts";
import { RUN_ROOT_FLAG, runRootOf } from "./run-root.ts";

export const mount: Command = {
  name: "mount",
  summary: "Mount an image without downloading it",
  operands: "IMAGE|BOOTSTRAP DIR",
  arity: [2, 2],
  flags: {
    driver: {
      type: "string",
      value: "NAME",
      help: "auto, erofs, erofs-loop or fuse (auto: the first that works)",
    },
    "cache-dir": { type: "string", value: "DIR", help: `where chunks are kept (${CACHE_DIRECTORY_HELP})` },
    "cache-size": {
      type: "string",
      value: "SIZE",
      help: "keep at most so much there, such as 10G; the least recently used goes first (no limit)",
    },
    writable: { type: "string", value: "DIR", help: "an overlay on top; changes are kept in DIR" },
    detach: { type: "boolean", short: "d", help: "return once the mount is ready" },
    record: { type: "string", value: "FILE", help: "write down what is read, until the image is unmounted" },
    trace: { type: "string", value: "FILE", help: "fetch ahead what such a file names" },
    prefetch: {
      type: "string",
      value: "PATH",
      multiple: true,
      help: "fetch ahead a file or directory of the image, / for all of it; may be given again",
    },
    blobs: { type: "string", value: "DIR", help: "for a bootstrap file: a directory of blobs" },
    backend: {
      type: "string",
      value: "REPOSITORY",
      help: "for a bootstrap file: the repository of its blobs",
    },
    "allow-unverified": ALLOW_UNVERIFIED_FLAG,
    platform: { type: "string", value: "OS/ARCH", help: "which image of an index" },
    referrers: {
      type: "boolean",
      help: "in the place of an ordinary image, a Nydus image that refers to it (whoever can push there can put one)",
    },
    status: { type: "string", value: "ADDRESS", help: "serve status and metrics: host:port or unix:PATH" },
    ...RUN_ROOT_FLAG,
    ...SOURCE_FLAGS,
    ...CONTAINERD_FLAGS,
    json: { type: "boolean", help: "say what was mounted as JSON" },
  },
  examples: [
    ["nydus-tool mount registry.example/app:nydus /mnt/app", "until Ctrl-C or nydus-tool umount"],
    ["nydus-tool mount --detach --writable /var/tmp/app oci:./app /mnt/app", "from a local layout, writable"],
    ["nydus-tool mount --record app.trace registry.example/app:nydus /mnt/app", "learn what a start reads"],
    ["nydus-tool mount --blobs ./blobs ./image.boot /mnt", "a bootstrap and a directory of blobs"],
  ],
  async run(args, context) {
    if (!isRoot()) {
      const writable = args.string("writable") !== undefined;
      checkUserMay(args.operand(0), { driver: args.choice("driver", DRIVERS, "auto"), writable });
    }
    if (args.boolean("detach")) await mountDetached(args, context);
    else await mountHere(args, context);
  },
};

/** A mount that nobody serves any more is no hindrance: the new one replaces it. */
async function directoryOperand(path: string, runRoot: string): Promise<string> {
  const real = realPlace(path);
  const there = mountAt(real);
  // Where a dead server's FUSE is mounted nothing can be looked at; what lies below it is a directory.
  const dead = there?.type === "fuse.nydus" && !existsSync(path);
  if (!dead && !(existsSync(path) && statSync(path).isDirectory()))
    throw new NydusError("not_found", `Cannot mount on "${path}": it is not a directory`);
  const served = (await findMounts(runRoot)).some(({ status }) => status.mountpoint === real);
  const ours = there?.type === "erofs" || there?.type === "fuse.nydus";
  if (served || (ours && !(await isBroken(real, runRoot)))) {
    throw new NydusError(
      "busy",
      `Cannot mount on "${real}": it is a mountpoint already; nydus-tool umount ${real} first`,
    );
  }
  return real;
}

async function isBroken(mountpoint: string, runRoot: string): Promise<boolean> {
  return (await findBroken(runRoot)).some(({ mountpoints }) => mountpoints.includes(mountpoint));
}

async function requestOf(args: Arguments, cacheDirectory: string, context: Context): Promise<MountRequest> {
  const { signal } = context;
  const image = args.operand(0);
  const mountpoint = await directoryOperand(args.operand(1), runRootOf(args, context));
  const writable = args.string("writable");
  const [trace, record] = [args.string("trace"), args.string("record")];
  if (trace !== undefined) readTrace(resolve(trace));
  const common = {
    id: mountpoint,
    mountpoint,
    driver: args.choice("driver", DRIVERS, "auto"),
    ...(writable === undefined ? {} : { writable: resolve(writable) }),
    ...(trace === undefined ? {} : { trace: resolve(trace) }),
    ...(record === undefined ? {} : { record: resolve(record) }),
    ...(args.boolean("allow-unverified") ? { allowUnverified: true } : {}),
    prefetch: { ...prefetchPolicy(args), paths: args.strings("prefetch") },
  };
  const access = sourceAccess(args);
  const bootstrapSource = sourceOfBootstrap(args);
  if (bootstrapSource !== undefined) {
    return { ...common, bootstrap: realpathSync(image), source: { ...access, location: bootstrapSource } };
  }
  const source: ImageSource = { ...access, location: absoluteLocation(image) };
  const platform = args.string("platform");
  const adopt: Adopt = (store, found) =>
    adoptImage(store, found, adoptedPlace(cacheDirectory, found), { progress: context.progress(), signal });
  const referrers = args.boolean("referrers");
  const options = {
    source,
    cacheDirectory,
    adopt,
    referrers,
    signal,
    ...(platform === undefined ? {} : { platform }),
  };
  return { ...common, ...(await fetchBootstrap(options)), source };
}

/** An existing file is a bootstrap; then its blobs must be named. */
function sourceOfBootstrap(args: Arguments): string | undefined {
  const [path, blobs, backend] = [args.operand(0), args.string("blobs"), args.string("backend")];
  const isFile = existsSync(path) && statSync(path).isFile();
  if (blobs === undefined && backend === undefined) {
    if (!isFile) return undefined;
    throw new NydusError(
      "usage",
      `Cannot mount bootstrap "${path}": say where its blobs are with --blobs or --backend`,
    );
  }
  if (!isFile) throw new NydusError("not_found", `Cannot mount bootstrap "${path}": no such file`);
  return blobs === undefined ? backend : blobsLocation(resolve(blobs));
}

/** The serving process may have another working directory. */
function absoluteLocation(location: string): string {
  const match = /^(oci|oci-archive|docker-archive):(.*)$/.exec(location);
  return match === null ? location : `${match[1]}:${resolve(match[2] ?? "")}`;
}

/**
 * This process keeps the file system alive; another one, its child, serves it. When either is killed, readers only
 * wait.
 */
async function mountHere(args: Arguments, context: Context): Promise<void> {
  const cacheDirectory = resolve(args.string("cache-dir") ?? defaultCacheDirectory(context.env));
  const request = await requestOf(args, cacheDirectory, context);
  const runDirectory = runDirectoryOf(runRootOf(args, context), process.pid);
  const keeping = {
    runDirectory,
    cacheDirectory,
    cacheSize: args.size("cache-size"),
    status: args.string("status"),
  };
  await using server = keptServer(keeping, context);
  try {
    announce(args, context, await server.mountAs(request));
    await sweepRunDirectories(runRootOf(args, context), context.log);
  } catch (error) {
    await endMount(server, runDirectory);
    throw error;
  }
  await keepUntilEnd(server, keeping, context);
}

/** @param pid of the process that keeps the mount first */
function runDirectoryOf(runRoot: string, pid: number): string {
  return join(runRoot, `mount-${pid}`);
}

function announce(args: Arguments, context: Context, status: MountStatus): void {
  if (args.boolean("json")) return context.print(JSON.stringify(status));
  context.print(`mounted ${status.reference} on ${status.mountpoint}`);
  context.print(`driver ${status.driver}: ${status.driverReason}`);
}

/**
 * The same command in a session of its own; it says when it is ready on its standard output. Its complaints go to a
 * file: whoever waits for the end of our standard error would otherwise wait for the end of the mount.
 */
async function mountDetached(args: Arguments, context: Context): Promise<void> {
  const words = process.argv
    .slice(process.argv.indexOf("mount"))
    .filter((word) => word !== "--detach" && word !== "-d");
  const runRoot = runRootOf(args, context);
  mkdirSync(runRoot, { recursive: true, mode: 0o700 });
  const starting = join(runRoot, `starting-${process.pid}.log`);
  const log = openSync(starting, "w+", 0o600);
  const child = Bun.spawn([...selfCommand(), ...words], {
    argv0: PROGRAM_NAME,
    stdio: ["ignore", "pipe", log],
    detached: true,
  });
  const ownLog = keeperLog(runDirectoryOf(runRoot, child.pid));
  renameSync(starting, ownLog);
  const wanted = args.boolean("json") ? 1 : 2;
  const lines: string[] = [];
  let text = "";
  for await (const bytes of child.stdout) {
    text += Buffer.from(bytes).toString("utf8");
    lines.splice(0, lines.length, ...text.split("\n").slice(0, -1));
    if (lines.length >= wanted) break;
  }
  if (lines.length < wanted) {
    const code = await child.exited;
    // By descriptor: the process has removed the name already. A path, because the offset is shared.
    process.stderr.write(readFileSync(`/proc/self/fd/${log}`));
    rmSync(ownLog, { force: true });
    throw new SilentExit(code);
  }
  closeSync(log);
  for (const line of lines) context.print(line);
  child.unref();
}
