/**
 * A file tree as tests imagine it, and how the difference between two of them is written as an image layer. The
 * expected tree is the model itself: nobody merges layers to find out what a mount must show.
 *
 * @module
 */
import type { Random } from "./random.ts";
import type { TarItem, TarType } from "./tar-builder.ts";

/** Immutable: a change puts a new object in its place, so that identity tells what a layer must mention. */
export interface ModelNode {
  readonly type: Exclude<TarType, "hardlink">;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNs: number;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
  readonly data?: Uint8Array;
  readonly target?: string;
  readonly major?: number;
  readonly minor?: number;
  /** A directory that no layer mentions: root's, 0755, time unspecified. */
  readonly implicit?: boolean;
}

/** Autumn 2023: an ordinary time. */
const ORDINARY_TIME = 1_700_000_000;

/** A node with ordinary attributes, except for those given. */
export function node(type: ModelNode["type"], rest: Partial<ModelNode> = {}): ModelNode {
  const mode = type === "dir" ? 0o755 : type === "symlink" ? 0o777 : 0o644;
  return { type, mode, uid: 0, gid: 0, mtime: ORDINARY_TIME, mtimeNs: 0, xattrs: new Map(), ...rest };
}

export function fileNode(data: Uint8Array | string, rest: Partial<ModelNode> = {}): ModelNode {
  return node("file", { data: typeof data === "string" ? Buffer.from(data, "latin1") : data, ...rest });
}

/** Paths are byte strings without a leading slash; the root is "". A hard link is one node under several paths. */
export type Model = ReadonlyMap<string, ModelNode>;

/** Everything but the root, for a tar. */
export function itemsOf(model: Model): TarItem[] {
  return [...model].filter(([path]) => path !== "").map(([path, entry]) => ({ path, ...entry }));
}

/** What a mount must show of one path; one JSON line each. */
export interface ExpectedEntry {
  readonly path: string;
  readonly type: ModelNode["type"];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds and nanoseconds; null where no layer says. */
  readonly mtime: readonly [number, number] | null;
  /** Names to hex values. */
  readonly xattrs: Readonly<Record<string, string>>;
  readonly size?: number;
  readonly sha256?: string;
  readonly nlink?: number;
  /** The first path of the same inode. */
  readonly link?: string;
  readonly target?: string;
  readonly rdev?: readonly [number, number];
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

export function joined(parent: string, name: string): string {
  return parent === "" ? name : `${parent}/${name}`;
}

export function isInside(path: string, directory: string): boolean {
  return directory === "" ? path !== "" : path.startsWith(`${directory}/`);
}

function ancestorsOf(path: string): string[] {
  const found: string[] = [];
  for (let p = parentOf(path); p !== ""; p = parentOf(p)) found.unshift(p);
  return found;
}

export function expectedTree(model: Model): ExpectedEntry[] {
  const names = new Map<ModelNode, string[]>();
  for (const [path, node] of model) names.set(node, [...(names.get(node) ?? []), path]);
  return [...model]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, node]) => expectedEntry(path, node, names));
}

function expectedEntry(
  path: string,
  node: ModelNode,
  names: ReadonlyMap<ModelNode, string[]>,
): ExpectedEntry {
  const { type, mode, uid, gid } = node;
  const xattrs = Object.fromEntries(
    [...node.xattrs].map(([key, value]) => [key, Buffer.from(value).toString("hex")]),
  );
  const mtime: [number, number] | null = node.implicit ? null : [node.mtime, node.mtimeNs];
  const common = { path: `/${path}`, type, mode, uid, gid, mtime, xattrs };
  switch (type) {
    case "file": {
      const data = node.data ?? new Uint8Array(0);
      const links = names.get(node) ?? [path];
      const sha256 = new Bun.CryptoHasher("sha256").update(data).digest("hex");
      return {
        ...common,
        size: data.byteLength,
        sha256,
        nlink: links.length,
        link: `/${links.toSorted()[0] ?? path}`,
      };
    }
    case "symlink":
      return { ...common, target: node.target ?? "" };
    case "char":
    case "block":
      return { ...common, rdev: [node.major ?? 0, node.minor ?? 0] };
    default:
      return common;
  }
}

/** The entries of a layer that turns `lower` into `upper`, in an order and a spelling that some builder would use. */
export function diffLayer(lower: Model, upper: Model, random: Random): TarItem[] {
  const changed = [...upper].filter(([path, node]) => lower.get(path) !== node && node.implicit !== true);
  const mentioned = new Map(changed);
  for (const [path] of changed) {
    for (const parent of ancestorsOf(path)) {
      const node = upper.get(parent);
      // Parents that did not change: some builders repeat them, some leave them out.
      if (node !== undefined && node.implicit !== true && random.chance(0.5)) mentioned.set(parent, node);
    }
  }
  const removals = removalItems(lower, upper, random);
  const entries = ordered([...mentioned.keys()], lower, upper, random);
  const written = new Map<ModelNode, string>();
  const items = entries.map((path) => entryItem(path, upper, written, random));
  return random.chance(0.5) ? [...removals, ...items] : [...items, ...removals];
}

/**
 * Mostly parents first; sometimes directories come after what is in them, as `tar -r` and some builders leave it. A
 * directory in the place of something else has to come first, or no unpacker could make what is in it.
 */
function ordered(paths: readonly string[], lower: Model, upper: Model, random: Random): string[] {
  const sorted = paths.toSorted();
  if (random.chance(0.5)) return sorted;
  const replaces = (path: string): boolean => (lower.get(path)?.type ?? "dir") !== "dir";
  const late = sorted.filter((path) => upper.get(path)?.type === "dir" && !replaces(path));
  const early = sorted.filter((path) => !late.includes(path));
  return [...early, ...random.shuffled(late)];
}

function removalItems(lower: Model, upper: Model, random: Random): TarItem[] {
  const items: TarItem[] = [];
  const opaque = new Set<string>();
  const gone = [...lower.keys()].filter((path) => !upper.has(path)).toSorted();
  for (const path of gone) {
    const parent = parentOf(path);
    // The removal of a parent, or a file in its place, takes this path along; so does an opaque directory above.
    if (upper.get(parent)?.type !== "dir") continue;
    if ([parent, ...ancestorsOf(parent)].some((p) => opaque.has(p))) continue;
    if (parent !== "" && isRewritten(parent, lower, upper) && random.chance(0.7)) {
      opaque.add(parent);
      items.push(whiteout(joined(parent, ".wh..wh..opq")));
    } else {
      items.push(whiteout(joined(parent, `.wh.${path.slice(parent === "" ? 0 : parent.length + 1)}`)));
    }
  }
  return items;
}

/** Whether a directory keeps nothing of the lower layer, so that it may be opaque. */
function isRewritten(directory: string, lower: Model, upper: Model): boolean {
  for (const [path, node] of upper) {
    if (isInside(path, directory) && lower.get(path) === node) return false;
    // An implicit directory below would not be mentioned, and needs a child that is: it has one or it is in `lower`.
    if (isInside(path, directory) && node.implicit === true && lower.has(path)) return false;
  }
  return true;
}

function whiteout(path: string): TarItem {
  return { path, type: "file", mode: 0 };
}

function entryItem(path: string, upper: Model, written: Map<ModelNode, string>, random: Random): TarItem {
  const node = upper.get(path);
  if (node === undefined) throw new RangeError(`Cannot write "${path}": it is not in the model`);
  const { type, mode, uid, gid, mtime, mtimeNs, xattrs } = node;
  const spelled = spelling(path, type, random);
  const plain = xattrs.size === 0 && mtimeNs === 0;
  const common = { path: spelled, mode, uid, gid, mtime, mtimeNs, xattrs } as const;
  const dialect = plain && random.chance(0.4) ? "gnu" : "pax";
  const first = written.get(node);
  if (type === "file" && first !== undefined) return { ...common, dialect, type: "hardlink", target: first };
  if (type === "file") written.set(node, path);
  return {
    ...common,
    dialect,
    type,
    ...(node.data !== undefined ? { data: node.data } : {}),
    ...(node.target !== undefined ? { target: node.target } : {}),
    ...(node.major !== undefined ? { major: node.major } : {}),
    ...(node.minor !== undefined ? { minor: node.minor } : {}),
  };
}

/** Builders write `a/b`, `./a/b` and `/a/b`, and directories with or without a slash at the end. */
function spelling(path: string, type: string, random: Random): string {
  if (path === "") return "./";
  const start = random.chance(0.2) ? "./" : random.chance(0.05) ? "/" : "";
  return `${start}${path}${type === "dir" && random.chance(0.8) ? "/" : ""}`;
}
