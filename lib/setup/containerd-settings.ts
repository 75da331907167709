/**
 * What containerd's configuration must say so that it uses the snapshotter, by its version and the file's format.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { TomlTable } from "./toml-lines.ts";

export interface ContainerdSettings {
  /** The snapshotter's name in containerd. */
  readonly name: string;
  /** Its socket. */
  readonly address: string;
  /** Where it keeps its data: the kubelet looks there for the image file system. */
  readonly root: string;
  /** Path of nydus-tool, which containerd runs for data layers that were fetched. */
  readonly program: string;
  /** Kubernetes' containers use it unless they say otherwise. */
  readonly cri: boolean;
  /** "1.6", "2.1"; undefined when there is no containerd to ask. */
  readonly version: Version | undefined;
}

export interface Version {
  readonly major: number;
  readonly minor: number;
}

/** From "containerd github.com/containerd/containerd v2.0.1 …", "1.6.20~ds1". */
export function parseVersion(text: string): Version | undefined {
  const [, major, minor] = /(?:^|[\sv])(\d+)\.(\d+)/.exec(text) ?? [];
  return major === undefined ? undefined : { major: Number(major), minor: Number(minor) };
}

export function atLeast(version: Version | undefined, major: number, minor: number): boolean {
  if (version === undefined) return false;
  return version.major > major || (version.major === major && version.minor >= minor);
}

/** Our verb that containerd runs. */
export const STREAM_PROCESSOR = "stream-processor";

const TRANSFER = ["plugins", "io.containerd.transfer.v1.local", "unpack_config"];

/** @param config the file as it is; its `version` is the format's */
export function containerdTables(
  config: Readonly<Record<string, unknown>>,
  settings: ContainerdSettings,
): readonly TomlTable[] {
  const { name, address, root, program, cri, version } = settings;
  const proxy = ["proxy_plugins", name];
  const fresh = Object.keys(config).length === 0;
  const format = fresh ? (atLeast(version, 2, 0) ? 3 : 2) : formatOf(config);
  return [
    ...(fresh ? [{ path: [], keys: { version: format } }] : []),
    { path: proxy, keys: { type: "snapshot", address } },
    { path: ["stream_processors", PROCESSOR_NAME], keys: streamProcessor(program) },
    ...(atLeast(version, 1, 7)
      ? [{ path: [...proxy, "exports"], keys: { root, enable_remote_snapshot_annotations: "true" } }]
      : []),
    ...(atLeast(version, 2, 0) ? unpackTables(config, name) : []),
    ...(cri
      ? [{ path: criPath(format), keys: { snapshotter: name, disable_snapshot_annotations: false } }]
      : []),
  ];
}

const PROCESSOR_NAME = "nydus-tool.blob";

/** What makes a plain `ctr image pull` work: it fetches data layers whole and wants to unpack them. */
function streamProcessor(program: string): TomlTable["keys"] {
  return { accepts: [MEDIA.nydusBlob], returns: MEDIA.ociLayer, path: program, args: [STREAM_PROCESSOR] };
}

/** A file without a version is of format 1. */
function formatOf(config: Readonly<Record<string, unknown>>): number {
  const version = config.version ?? 1;
  if (version === 1 || version === 2 || version === 3 || version === 4) return version;
  throw new NydusError("unsupported", `Cannot change the file: its version is ${String(version)}`);
}

/** Where the CRI plugin's snapshotter is named. */
function criPath(format: number): readonly string[] {
  if (format === 1) return ["plugins", "cri", "containerd"];
  if (format === 2) return ["plugins", "io.containerd.grpc.v1.cri", "containerd"];
  return ["plugins", "io.containerd.cri.v1.images"];
}

/** The transfer service unpacks only with snapshotters that are listed; a list replaces the default, which is overlayfs. */
function unpackTables(config: Readonly<Record<string, unknown>>, name: string): readonly TomlTable[] {
  const there = unpackers(config);
  const element = (snapshotter: string): TomlTable => ({
    path: TRANSFER,
    element: true,
    keys: { platform: "linux", snapshotter },
  });
  if (there?.includes(name)) return [];
  return there === undefined ? [element("overlayfs"), element(name)] : [element(name)];
}

/** Snapshotters that the transfer service unpacks with; undefined when the file does not say. */
export function unpackers(config: Readonly<Record<string, unknown>>): readonly string[] | undefined {
  const list = valueAt(config, TRANSFER);
  if (!Array.isArray(list)) return undefined;
  return list.map((element: unknown) => String(valueAt(element, ["snapshotter"])));
}

export function valueAt(root: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, word) => (typeof at === "object" && at !== null ? (at as Record<string, unknown>)[word] : undefined),
    root,
  );
}
