/**
 * What a mount is asked for and what is told about it: the same shapes in the process, on the control socket and on
 * the status endpoint. Requests may carry credentials; what is told never does.
 *
 * @module
 */
import { type Digest, isDigest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { SourceStatus } from "../content/content.ts";
import { parseAccess, type RegistryAccess } from "../registry/access.ts";

export const DRIVERS = ["auto", "erofs", "erofs-loop", "fuse"] as const;
export type Driver = (typeof DRIVERS)[number];
/** What `auto` ends up as. */
export type MountedDriver = Exclude<Driver, "auto">;

/** Where a mount's blobs come from. */
export interface ImageSource extends RegistryAccess {
  /** As `openStore` takes it: a reference, "docker://REF", "oci:DIR". */
  readonly location: string;
  readonly credentials?: { readonly username: string; readonly password: string };
  /** Of a registry's image: containerd's content store is asked first. */
  readonly localFirst?: boolean;
}

/** How data is fetched before anything reads it. */
export interface PrefetchPolicy {
  /** Paths in the image, files or directories, besides what is known of its start. */
  readonly paths?: readonly string[];
  /** Stored bytes a second, over all mounts of a process. */
  readonly bandwidth?: number;
  /** Keep what a first run reads beside the image in its registry, for other nodes. */
  readonly pushList?: boolean;
}

export interface MountRequest {
  /** Names the mount. Asking again for a mounted id changes nothing. */
  readonly id: string;
  /** Absolute paths. */
  readonly bootstrap: string;
  readonly mountpoint: string;
  readonly source: ImageSource;
  readonly driver: Driver;
  /** A directory for the upper layer and its work directory: an overlay goes on top. */
  readonly writable?: string;
  /** A trace to replay, and a file to record one in. */
  readonly trace?: string;
  readonly record?: string;
  /** What the image is, unless it is a Nydus image: for people. */
  readonly format?: string;
  readonly prefetch?: PrefetchPolicy;
  /** Read external blobs that nothing vouches for. */
  readonly allowUnverified?: boolean;
  /** Digest of the image's manifest, where it is known: lists of what its start reads refer to it. */
  readonly image?: Digest;
}

export interface MountStatus {
  readonly id: string;
  readonly mountpoint: string;
  /** The source's location. */
  readonly reference: string;
  readonly driver: MountedDriver;
  /** Why this driver. */
  readonly driverReason: string;
  /** What the image is, such as "RAFS v6" or "eStargz". */
  readonly format: string;
  readonly state: "mounted" | "broken";
  readonly writable: boolean;
  /** Hex ids, in device order. */
  readonly blobs: readonly string[];
  /** Those of them that the kernel reads from their cache files, without this process. */
  readonly directBlobs: readonly string[];
  /** Stored bytes of all blobs, and how many were fetched since the mount. */
  readonly imageBytes: number;
  readonly fetchedBytes: number;
  /** Requests for chunks, chunks that came, chunks that failed their digest, chunks that could not be cached. */
  readonly requests: number;
  readonly chunks: number;
  readonly corruptChunks: number;
  readonly uncachedChunks: number;
  /** Kernel reads that the cache answered, and those that had to wait. */
  readonly hits: number;
  readonly misses: number;
  /** Uncompressed bytes of all chunks, and of those that are in the cache. */
  readonly dataBytes: number;
  readonly cachedBytes: number;
  readonly sources: readonly SourceStatus[];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function absolute(value: unknown, what: string): string {
  if (typeof value === "string" && value.startsWith("/") && !value.includes("\0")) return value;
  throw new NydusError("usage", `Cannot mount: the ${what} is not an absolute path`);
}

function parseSource(value: unknown): ImageSource {
  if (!isRecord(value) || typeof value.location !== "string") {
    throw new NydusError("usage", "Cannot mount: the request names no source");
  }
  const { location, credentials } = value;
  const login =
    isRecord(credentials) &&
    typeof credentials.username === "string" &&
    typeof credentials.password === "string"
      ? { credentials: { username: credentials.username, password: credentials.password } }
      : {};
  return {
    location: location as string,
    ...parseAccess(value),
    ...login,
    ...(value.localFirst === true ? { localFirst: true } : {}),
  };
}

function parsePrefetch({ paths, bandwidth, pushList }: Record<string, unknown>): PrefetchPolicy {
  return {
    ...(Array.isArray(paths) ? { paths: paths.filter((path) => typeof path === "string") } : {}),
    ...(typeof bandwidth === "number" && bandwidth > 0 ? { bandwidth } : {}),
    pushList: pushList === true,
  };
}

/** Checks a request that came over the control socket. */
export function parseMountRequest(value: unknown): MountRequest {
  if (!isRecord(value)) throw new NydusError("usage", "Cannot mount: the request is not an object");
  const { id, writable, trace, record, format, image } = value;
  if (typeof id !== "string" || id === "")
    throw new NydusError("usage", "Cannot mount: the request has no id");
  const driver = DRIVERS.find((name) => name === value.driver) ?? "auto";
  return {
    id,
    bootstrap: absolute(value.bootstrap, "bootstrap"),
    mountpoint: absolute(value.mountpoint, "mountpoint"),
    source: parseSource(value.source),
    driver,
    ...(writable === undefined ? {} : { writable: absolute(writable, "writable directory") }),
    ...(trace === undefined ? {} : { trace: absolute(trace, "trace") }),
    ...(record === undefined ? {} : { record: absolute(record, "file to record in") }),
    ...(typeof format === "string" ? { format } : {}),
    ...(value.allowUnverified === true ? { allowUnverified: true } : {}),
    ...(isRecord(value.prefetch) ? { prefetch: parsePrefetch(value.prefetch) } : {}),
    ...(typeof image === "string" && isDigest(image) ? { image } : {}),
  };
}
