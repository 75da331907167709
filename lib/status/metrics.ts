/**
 * Metrics in Prometheus' text format (exposition format 0.0.4).
 *
 * Per mount (labels `mountpoint`, `reference`, `driver`):
 *     nydus_mount_image_bytes           stored bytes of all blobs of the image
 *     nydus_mount_fetched_bytes_total   stored bytes fetched since the mount
 *     nydus_mount_requests_total        requests for chunks to the source
 *     nydus_mount_chunks_total          chunks fetched and verified
 *     nydus_mount_corrupt_chunks_total  chunks that failed their digest and were asked for again
 *     nydus_mount_uncached_chunks_total chunks that could not be written to the cache
 *     nydus_mount_cache_hits_total      kernel reads answered from the cache
 *     nydus_mount_cache_misses_total    kernel reads that had to wait for data
 * Of a cache (label `directory`):
 *     nydus_cache_bytes                 data on disk
 *     nydus_cache_limit_bytes           the quota, where there is one
 *     nydus_cache_evicted_bytes_total   data that left to keep the quota
 *     nydus_cache_checked_chunks_total  chunks read back and compared with their digest
 *     nydus_cache_damaged_chunks_total  those of them that did not match
 * Of the process:
 *     nydus_mounts{driver,state}        mounted images
 *     nydus_broken_mounts               mounts whose reads fail, as everybody who could serve them died
 * Of a snapshotter:
 *     nydus_snapshots{kind,layer}       snapshots it knows
 *     nydus_failed_images               images that containers need and that cannot be mounted at the moment
 *     nydus_snapshotter_operation_seconds{operation,code}
 *                                       histogram of calls; code is "ok" or what failed, where "exists" and
 *                                       "not_found" are ordinary answers
 *
 * @module
 */
import type { CacheStatus } from "../blob/cache-status.ts";
import type { BrokenMount } from "../mount/broken-mounts.ts";
import type { MountStatus } from "../mount/mount-request.ts";
import { BUCKETS, type OperationStatus } from "./operations.ts";
import type { SnapshotStatus } from "./source.ts";

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** Backslash, quote and newline are escaped in label values. */
function labelText(labels: Labels): string {
  const escaped = (value: string): string =>
    value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function family(name: string, type: "gauge" | "counter", help: string, samples: readonly Sample[]): string {
  const lines = samples.map(({ labels, value }) => `${name}${labelText(labels)} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines, ""].join("\n");
}

const MOUNT_FAMILIES: readonly (readonly [string, "gauge" | "counter", keyof MountStatus, string])[] = [
  ["nydus_mount_image_bytes", "gauge", "imageBytes", "Stored bytes of all blobs of the image."],
  ["nydus_mount_fetched_bytes_total", "counter", "fetchedBytes", "Stored bytes fetched since the mount."],
  ["nydus_mount_requests_total", "counter", "requests", "Requests for chunks to the source."],
  ["nydus_mount_chunks_total", "counter", "chunks", "Chunks fetched and verified."],
  ["nydus_mount_corrupt_chunks_total", "counter", "corruptChunks", "Chunks that failed their digest."],
  ["nydus_mount_uncached_chunks_total", "counter", "uncachedChunks", "Chunks that could not be cached."],
  ["nydus_mount_cache_hits_total", "counter", "hits", "Kernel reads answered from the cache."],
  ["nydus_mount_cache_misses_total", "counter", "misses", "Kernel reads that had to wait for data."],
];

export function mountMetrics(mounts: readonly MountStatus[]): string {
  const families = MOUNT_FAMILIES.map(([name, type, field, help]) =>
    family(
      name,
      type,
      help,
      mounts.map((mount) => ({
        labels: { mountpoint: mount.mountpoint, reference: mount.reference, driver: mount.driver },
        value: Number(mount[field]),
      })),
    ),
  );
  const counted = countBy(mounts, (mount) => `${mount.driver} ${mount.state}`).map(([key, value]) => {
    const [driver = "", state = ""] = key.split(" ");
    return { labels: { driver, state }, value };
  });
  return [...families, family("nydus_mounts", "gauge", "Mounted images.", counted)].join("");
}

export function brokenMetrics(broken: readonly BrokenMount[]): string {
  const value = broken.reduce((sum, { mountpoints }) => sum + mountpoints.length, 0);
  return family("nydus_broken_mounts", "gauge", "Mounts whose reads fail.", [{ labels: {}, value }]);
}

const CACHE_FAMILIES: readonly (readonly [string, "gauge" | "counter", keyof CacheStatus, string])[] = [
  ["nydus_cache_bytes", "gauge", "bytes", "Data on disk."],
  ["nydus_cache_limit_bytes", "gauge", "limit", "Quota of the cache."],
  ["nydus_cache_evicted_bytes_total", "counter", "evictedBytes", "Data that left to keep the quota."],
  ["nydus_cache_checked_chunks_total", "counter", "checkedChunks", "Chunks read back."],
  ["nydus_cache_damaged_chunks_total", "counter", "damagedChunks", "Chunks found damaged on disk."],
];

export function cacheMetrics(caches: readonly CacheStatus[]): string {
  const families = CACHE_FAMILIES.map(([name, type, field, help]) => {
    const having = caches.filter((cache) => cache[field] !== undefined);
    const samples = having.map((cache) => ({
      labels: { directory: cache.directory },
      value: Number(cache[field]),
    }));
    return family(name, type, help, samples);
  });
  return families.join("");
}

export function snapshotMetrics(snapshots: readonly SnapshotStatus[]): string {
  const counted = countBy(snapshots, ({ kind, layer }) => `${kind} ${layer}`).map(([key, value]) => {
    const [kind = "", layer = ""] = key.split(" ");
    return { labels: { kind, layer }, value };
  });
  const failed = snapshots.filter(({ failure }) => failure !== undefined).length;
  return [
    family("nydus_snapshots", "gauge", "Snapshots known to the snapshotter.", counted),
    family("nydus_failed_images", "gauge", "Images that containers need and that cannot be mounted.", [
      { labels: {}, value: failed },
    ]),
  ].join("");
}

export function operationMetrics(operations: readonly OperationStatus[]): string {
  const name = "nydus_snapshotter_operation_seconds";
  const lines = operations.flatMap(({ operation, code, count, seconds, buckets }) => {
    const labels = { operation, code };
    const bucket = (le: string, value: number): string =>
      `${name}_bucket${labelText({ ...labels, le })} ${value}`;
    return [
      ...BUCKETS.map((bound, i) => bucket(String(bound), buckets[i] ?? 0)),
      bucket("+Inf", count),
      `${name}_sum${labelText(labels)} ${seconds}`,
      `${name}_count${labelText(labels)} ${count}`,
    ];
  });
  return [`# HELP ${name} Calls answered, by outcome.`, `# TYPE ${name} histogram`, ...lines, ""].join("\n");
}

function countBy<T>(items: readonly T[], key: (item: T) => string): [string, number][] {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1);
  return [...counts];
}
