/**
 * `nydus-tool snapshotter serve`: the snapshotter that containerd talks to. Image data is served by another process,
 * which this one starts and which outlives it: containers keep their files when the snapshotter is stopped.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { NydusError } from "../lib/base/error.ts";
import { EventLog } from "../lib/base/event-log.ts";
import { createLogger, type Logger } from "../lib/base/log.ts";
import { ServiceManager } from "../lib/base/service-manager.ts";
import { isSystemdService } from "../lib/base/systemd.ts";
import { ContainerdClient, DEFAULT_ADDRESS, DEFAULT_NAMESPACE } from "../lib/containerd/client.ts";
import { openStore } from "../lib/image/open.ts";
import { DEFAULT_CACHE_GRACE, MountServer } from "../lib/mount/client.ts";
import { ROOTS_RUN_DIRECTORY } from "../lib/mount/default-directories.ts";
import { inheritedDescriptors } from "../lib/mount/inherited-descriptors.ts";
import { DRIVERS } from "../lib/mount/mount-request.ts";
import { removeRunDirectory } from "../lib/mount/run-directory.ts";
import { layerAdopter } from "../lib/snapshot/adopt-layers.ts";
import { keepCollecting } from "../lib/snapshot/collect-loop.ts";
import type { Snapshot } from "../lib/snapshot/metastore.ts";
import { Referrers } from "../lib/snapshot/referrers.ts";
import { keepRepairing } from "../lib/snapshot/repair-loop.ts";
import { chainIdOf, findReferences } from "../lib/snapshot/resolve-reference.ts";
import { DEFAULT_SNAPSHOTTER_ADDRESS, serveSnapshots } from "../lib/snapshot/service.ts";
import type { FailedImage } from "../lib/snapshot/snapshot-images.ts";
import { DEFAULT_ROOT, Snapshotter } from "../lib/snapshot/snapshotter.ts";
import { OperationRecorder } from "../lib/status/operations.ts";
import { serveStatus } from "../lib/status/serve.ts";
import type { SnapshotStatus } from "../lib/status/source.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { keepCredentials } from "./credentials.ts";
import { prefetchPolicy, sourceAccess } from "./registry-flags.ts";
import { LEVELS, SERVE_FLAGS, withConfig } from "./snapshotter-config.ts";

export const snapshotterServe: Command = {
  name: "snapshotter serve",
  summary: "Serve containerd as a remote snapshotter",
  operands: "",
  arity: [0, 0],
  flags: SERVE_FLAGS,
  examples: [
    ["nydus-tool snapshotter serve", "in containerd's config.toml: [proxy_plugins.nydus] type, address"],
    ["nydus-tool snapshotter serve --config /etc/nydus-tool.toml --status 127.0.0.1:9110", "with metrics"],
    [
      "nydus-tool snapshotter serve --referrers",
      "app:1 starts through what convert --with-referrer made of it",
    ],
    [
      "nydus-tool snapshotter serve --config /etc/nydus/config.toml",
      "in the place of nydus-snapshotter, with its own configuration",
    ],
  ],
  async run(given, context) {
    if (process.getuid?.() !== 0)
      throw new NydusError("denied", "Cannot serve snapshots: mounting needs root");
    const { args, warnings } = await withConfig(given);
    const events = new EventLog(logger(args));
    const log = events.logger;
    for (const warning of warnings) log.warn(warning);
    await serve(args, context, events);
  },
};

/** To the journal, whose reader wants to know what happened: more than other verbs say. */
function logger(args: Arguments): Logger {
  return createLogger((line) => process.stderr.write(line), args.choice("log-level", LEVELS, "info"));
}

async function serve(args: Arguments, { print, signal }: Context, events: EventLog): Promise<void> {
  const log = events.logger;
  const root = resolve(args.string("root") ?? DEFAULT_ROOT);
  const runDirectory = join(resolve(args.string("run-dir") ?? ROOTS_RUN_DIRECTORY), runName(root));
  const grace = args.duration("cache-grace", DEFAULT_CACHE_GRACE);
  await using containerd = new ContainerdClient({
    address: args.string("containerd-address") ?? DEFAULT_ADDRESS,
    namespace: DEFAULT_NAMESPACE,
  });
  await using credentials = await keepCredentials(args, runDirectory, log);
  const manager = ServiceManager.of(process.env, log);
  const access = sourceAccess(args);
  await using mounter = new MountServer({
    runDirectory,
    cacheDirectory: resolve(args.string("cache-dir") ?? join(root, "cache")),
    cacheSize: args.size("cache-size"),
    cacheGrace: grace,
    driver: args.choice("driver", DRIVERS, "auto"),
    access,
    prefetch: prefetchPolicy(args),
    contentAddress: resolve(args.string("containerd-address") ?? DEFAULT_ADDRESS),
    ...(restartedByOthers(args) ? {} : { restartWith: process.argv.slice(2) }),
    resumeWith: process.argv.slice(2),
    inherited: inheritedDescriptors(process.env, process.pid),
    secrets: credentials.pulls,
    store: manager,
    log,
  });
  const references = async (bootstrap: Snapshot, namespace?: string): Promise<readonly string[]> => {
    const chainId = chainIdOf(bootstrap);
    return chainId === undefined ? [] : await findReferences(containerd, chainId, namespace);
  };
  const openImage = (reference: string) =>
    openStore(reference, { ...access, credentials: credentials.source });
  const referrers = args.boolean("referrers")
    ? new Referrers({
        openImage,
        check: (path) => mounter.check(path),
        directory: join(root, "referring"),
        log,
      })
    : undefined;
  await using snapshotter = await Snapshotter.open({
    ...{ root, mounter, log },
    findReferences: references,
    adopt: layerAdopter(openImage, referrers),
    findReferrer: async (layer) => referrers?.find(layer),
    rememberCredentials: (reference, login) => credentials.pulls.remember("label", reference, login),
  });
  const operations = new OperationRecorder();
  const address = resolve(args.string("address") ?? DEFAULT_SNAPSHOTTER_ADDRESS);
  await mounter.attach();
  {
    await using _server = await serveSnapshots(snapshotter, address, {
      log,
      observe: operations.observe,
      fallback: credentials.imageService,
    });
    await using status = optionalStatus(args, {
      mounts: () => mounter.list(),
      broken: () => mounter.broken(),
      caches: () => mounter.caches(),
      snapshots: async () => snapshotStatus(await snapshotter.list(), snapshotter.failedImages),
      operations: () => operations.list(),
      reads: (id) => mounter.reads(id),
      events: async () => [...events.list(), ...(await mounter.events())],
    });
    print(`serving snapshots at ${address}`);
    if (status !== undefined) print(`status at ${status.address}`);
    manager?.ready();
    using _repairs = keepRepairing(snapshotter);
    using _collections = keepCollecting(snapshotter, grace, log);
    await ended(signal);
    manager?.stopping();
    mounter.letGo();
    log.info("stopping; mounts of containers stay");
  }
  if (await mounter.stopIfIdle()) removeRunDirectory(runDirectory);
}

/** Two that start the same process again would fight over its address: see docs/decisions/mount-process.md. */
function restartedByOthers(args: Arguments): boolean {
  return args.boolean("supervised") || isSystemdService(process.env, process.pid);
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

function snapshotStatus(
  snapshots: readonly Snapshot[],
  failed: readonly FailedImage[],
): readonly SnapshotStatus[] {
  const failures = new Map(failed.map((failure) => [failure.id, failure]));
  return snapshots.map((snapshot) => {
    const { id, name, parent, kind, layer, reference, namespace, created } = snapshot;
    const failure = failures.get(id);
    return {
      namespace: namespace ?? "",
      ...{ name, parent, kind, layer, id },
      ...(reference === undefined ? {} : { reference }),
      ...(failure === undefined
        ? {}
        : { failure: { error: failure.error, since: new Date(failure.since).toISOString() } }),
      createdAt: new Date(created).toISOString(),
    };
  });
}

/** Being told to stop is how this verb ends well. */
async function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((done) => signal.addEventListener("abort", done, { once: true }));
}
