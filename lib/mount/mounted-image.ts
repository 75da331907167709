/**
 * One image that is mounted, and what people may know of it.
 *
 * @module
 */
import type { DrivenImage } from "./drivers.ts";
import { COUNTER } from "./fuse-messages.ts";
import type { ServedBlob } from "./image-blobs.ts";
import type { OpenedImage } from "./image-opener.ts";
import type { MountRequest, MountStatus } from "./mount-request.ts";
import { mountAt } from "./mount-table.ts";

export interface MountedImage extends DrivenImage, Pick<OpenedImage, "blobs" | "fetcher" | "format"> {
  readonly request: MountRequest;
  /** Where the image itself is mounted: the mountpoint, or below an overlay. */
  readonly imageDirectory: string;
}

export function statusOf(mounted: MountedImage): MountStatus {
  const { request, driver, driverReason, directBlobs, format, fetcher } = mounted;
  const { blobs } = mounted.blobs;
  const sum = (pick: (blob: ServedBlob) => number): number =>
    blobs.reduce((total, blob) => total + pick(blob), 0);
  return {
    id: request.id,
    mountpoint: request.mountpoint,
    reference: request.source.location,
    driver,
    driverReason,
    format,
    state: mountAt(request.mountpoint) === undefined ? "broken" : "mounted",
    writable: request.writable !== undefined,
    blobs: blobs.map((blob) => blob.cached.map.blobId),
    directBlobs,
    imageBytes: sum((blob) => blob.cached.map.compressedSize),
    fetchedBytes: sum((blob) => blob.reader.counters.storedBytes),
    requests: sum((blob) => blob.reader.counters.runs),
    chunks: sum((blob) => blob.reader.counters.chunks),
    corruptChunks: sum((blob) => blob.reader.counters.corruptChunks),
    uncachedChunks: sum((blob) => blob.reader.counters.uncached),
    hits: sum((blob) => blob.device.counters[COUNTER.HITS] ?? 0),
    misses: sum((blob) => blob.device.counters[COUNTER.MISSES] ?? 0),
    dataBytes: sum((blob) => blob.cached.amount.all),
    cachedBytes: sum((blob) => blob.cached.amount.cached),
    sources: fetcher.sources?.() ?? [],
  };
}
