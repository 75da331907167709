/**
 * `nydus-tool status`: what is mounted, and how much of it was fetched.
 *
 * @module
 */
import { NydusError } from "../lib/base/error.ts";
import type { CacheStatus } from "../lib/blob/cache-status.ts";
import type { BrokenMount } from "../lib/mount/broken-mounts.ts";
import type { MountStatus } from "../lib/mount/mount-request.ts";
import { findBroken, findCaches, findMounts } from "../lib/mount/run-directory.ts";
import type { SnapshotStatus } from "../lib/status/source.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { formatBytes } from "./progress.ts";
import { RUN_ROOT_FLAG, runRootOf } from "./run-root.ts";

export const status: Command = {
  name: "status",
  summary: "Show what is mounted, by which driver, and how much was fetched",
  operands: "",
  arity: [0, 0],
  flags: {
    address: { type: "string", value: "ADDRESS", help: "a status endpoint: host:port or unix:PATH" },
    ...RUN_ROOT_FLAG,
    json: { type: "boolean", help: "as JSON" },
  },
  examples: [
    ["nydus-tool status", "the mounts of this machine"],
    ["nydus-tool status --address unix:/run/nydus/status.sock", "those of a snapshotter's status endpoint"],
  ],
  async run(args, context) {
    const { print } = context;
    const report = await collect(args, context);
    if (args.boolean("json")) return print(JSON.stringify(report, undefined, 2));
    if (report.mounts.length + report.broken.length === 0) print("nothing is mounted");
    for (const mount of report.mounts) for (const line of described(mount)) print(line);
    for (const line of report.broken.flatMap(lost)) print(line);
    for (const line of report.caches.flatMap(stored)) print(line);
    if (report.snapshots !== undefined)
      for (const line of [...failed(report.snapshots), ...counted(report.snapshots)]) print(line);
  },
};

interface Report {
  readonly mounts: readonly MountStatus[];
  readonly broken: readonly BrokenMount[];
  /** One a process that serves mounts; processes may share a directory. */
  readonly caches: readonly CacheStatus[];
  /** Where a snapshotter answers. */
  readonly snapshots?: readonly SnapshotStatus[];
}

async function collect(args: Arguments, context: Context): Promise<Report> {
  const address = args.string("address");
  if (address !== undefined) return await ask(address);
  const runRoot = runRootOf(args, context);
  const [found, broken, caches] = await Promise.all([
    findMounts(runRoot),
    findBroken(runRoot),
    findCaches(runRoot),
  ]);
  return { mounts: found.map(({ status }) => status), broken, caches };
}

async function ask(address: string): Promise<Report> {
  const unix = address.startsWith("unix:");
  const url = unix ? "http://status" : address.startsWith("http") ? address : `http://${address}`;
  const get = (path: string): Promise<Response> =>
    fetch(`${url}/api/v1/${path}`, unix ? { unix: address.slice("unix:".length) } : {});
  try {
    const paths = ["mounts", "broken", "caches", "snapshots"] as const;
    const [mounts, broken, caches, snapshots] = await Promise.all(paths.map(get));
    if (mounts?.ok !== true) throw new Error(`it answers ${mounts?.status}`);
    return {
      mounts: (await mounts.json()) as readonly MountStatus[],
      broken: broken?.ok === true ? ((await broken.json()) as readonly BrokenMount[]) : [],
      caches: caches?.ok === true ? ((await caches.json()) as readonly CacheStatus[]) : [],
      ...(snapshots?.ok === true ? { snapshots: (await snapshots.json()) as readonly SnapshotStatus[] } : {}),
    };
  } catch (cause) {
    const state =
      cause instanceof Error && cause.message.startsWith("it answers") ? cause.message : "nobody answers";
    throw new NydusError("unavailable", `Cannot read status from "${address}": ${state}`, { cause });
  }
}

function stored(cache: CacheStatus): string[] {
  const quota = cache.limit === undefined ? "" : ` of at most ${formatBytes(cache.limit)}`;
  const evicted = cache.evictedBytes === 0 ? "" : `, ${formatBytes(cache.evictedBytes)} evicted`;
  return [
    `cache ${cache.directory}: ${formatBytes(cache.bytes)}${quota}${evicted}`,
    ...(cache.damagedChunks > 0 ? [`  damaged  ${cache.damagedChunks} chunks, fetched again`] : []),
    ...(cache.trouble === undefined ? [] : [`  trouble  ${cache.trouble}`]),
  ];
}

function lost({ reference, since, mountpoints }: BrokenMount): string[] {
  return [
    `BROKEN ${reference}`,
    ...mountpoints.map((mountpoint) => `  at       ${mountpoint}`),
    `  trouble  reads fail since ${since}: every process that served it died; unmount it, or restart what runs there`,
  ];
}

function failed(snapshots: readonly SnapshotStatus[]): string[] {
  return snapshots.flatMap(({ name, reference, failure }) =>
    failure === undefined
      ? []
      : [
          `NOT MOUNTED ${reference ?? name}`,
          `  since    ${failure.since}, tried again all the time`,
          `  trouble  ${failure.error}`,
        ],
  );
}

/** One line for each namespace. */
function counted(snapshots: readonly SnapshotStatus[]): string[] {
  const namespaces = [...new Set(snapshots.map(({ namespace }) => namespace))].sort();
  return namespaces.map((namespace) => {
    const own = snapshots.filter((snapshot) => snapshot.namespace === namespace);
    const kinds = (["active", "view", "committed"] as const).map((kind) => {
      const count = own.filter((snapshot) => snapshot.kind === kind).length;
      return `${count} ${kind}`;
    });
    const images = own.filter(({ layer }) => layer === "nydus-bootstrap").length;
    return `snapshots in ${namespace || "no namespace"}: ${kinds.join(", ")}; ${images} Nydus images`;
  });
}

function direct({ directBlobs, blobs }: MountStatus): string {
  const which = directBlobs.length === blobs.length ? "" : `: ${directBlobs.join(", ")}`;
  return `the kernel reads ${directBlobs.length} of ${blobs.length} blobs from the cache by itself${which}`;
}

function described(mount: MountStatus): string[] {
  const share = mount.imageBytes === 0 ? 100 : (mount.fetchedBytes / mount.imageBytes) * 100;
  const amount = `${formatBytes(mount.fetchedBytes)} of ${formatBytes(mount.imageBytes)}`;
  const trouble = [
    mount.state === "broken" ? "BROKEN" : "",
    mount.corruptChunks > 0 ? `${mount.corruptChunks} damaged chunks fetched again` : "",
    mount.uncachedChunks > 0 ? `${mount.uncachedChunks} chunks not cached` : "",
  ].filter((text) => text !== "");
  return [
    mount.mountpoint,
    `  image    ${mount.reference}`,
    `  format   ${mount.format}`,
    `  driver   ${mount.driver}${mount.writable ? " + overlay" : ""} (${mount.driverReason})`,
    ...(mount.directBlobs.length === 0 ? [] : [`  direct   ${direct(mount)}`]),
    `  fetched  ${amount} (${share.toFixed(1)}%) in ${mount.requests} requests`,
    `  reads    ${mount.hits} from the cache, ${mount.misses} waited`,
    ...(trouble.length > 0 ? [`  trouble  ${trouble.join(", ")}`] : []),
  ];
}
