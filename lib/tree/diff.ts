/**
 * What is different between two trees, in byte order of paths.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { sameBytes } from "../base/digest.ts";
import { type Attributes, type Directory, type Node, type RegularFile, sortedEntries } from "./tree.ts";

/** What of a node can differ. `link`: the first path of the same inode. */
export const FIELDS = [
  "type",
  "mode",
  "uid",
  "gid",
  "mtime",
  "xattrs",
  "size",
  "content",
  "target",
  "device",
  "link",
] as const;
export type Field = (typeof FIELDS)[number];

export interface Difference {
  /** From the root: "/etc/passwd". */
  readonly path: ByteString;
  readonly change: "added" | "removed" | "changed";
  /** What changed; none of what was added or removed. */
  readonly fields: readonly Field[];
  readonly before: Node | undefined;
  readonly after: Node | undefined;
  /** Of nodes with several names: the first path on either side. */
  readonly links: readonly [before: string | undefined, after: string | undefined];
}

/** Whether two files have the same bytes. */
export type SameContent = (before: RegularFile, after: RegularFile) => boolean;

/** Right when both trees cut files into chunks of one size and hash them with one algorithm. */
const sameChunks: SameContent = (before, after) =>
  before.chunks.length === after.chunks.length &&
  before.chunks.every(({ digest }, i) => sameBytes(digest, after.chunks[i]?.digest ?? digest.subarray(0, 0)));

/** A directory's place, in both trees or in one. */
interface Pair {
  readonly path: ByteString;
  readonly before: Node | undefined;
  readonly after: Node | undefined;
}

/** Whether a directory is implicit makes no difference. */
export function* diffTrees(
  before: Directory,
  after: Directory,
  same: SameContent = sameChunks,
): Generator<Difference, undefined> {
  const links = [firstPaths(before), firstPaths(after)] as const;
  const waiting: Pair[] = [{ path: "/" as ByteString, before, after }];
  for (let pair = waiting.pop(); pair !== undefined; pair = waiting.pop()) {
    const first = [linkOf(links[0], pair.before), linkOf(links[1], pair.after)] as const;
    if (pair.before === undefined) yield { ...pair, change: "added", fields: [], links: first };
    else if (pair.after === undefined) yield { ...pair, change: "removed", fields: [], links: first };
    else {
      const fields = changedFields(pair.before, pair.after, same);
      if (first[0] !== first[1]) fields.push("link");
      if (fields.length > 0) yield { ...pair, change: "changed", fields, links: first };
    }
    waiting.push(...pairsBelow(pair).reverse());
  }
}

function linkOf(links: ReadonlyMap<Node, string>, node: Node | undefined): string | undefined {
  return node === undefined ? undefined : links.get(node);
}

function pairsBelow({ path, before, after }: Pair): Pair[] {
  const [a, b] = [entriesOf(before), entriesOf(after)];
  const names = [...new Set([...a.keys(), ...b.keys()])].sort((x, y) => (x < y ? -1 : 1));
  return names.map((name) => ({
    path: `${path === "/" ? "" : path}/${name}` as ByteString,
    before: a.get(name),
    after: b.get(name),
  }));
}

function entriesOf(node: Node | undefined): ReadonlyMap<ByteString, Node> {
  return node?.kind === "directory" ? node.entries : new Map();
}

function changedFields(before: Node, after: Node, same: SameContent): Field[] {
  const fields = changedAttributes(before.attributes, after.attributes);
  if (before.kind !== after.kind) return ["type", ...fields];
  if (before.kind === "file" && after.kind === "file") {
    if (before.size !== after.size) fields.push("size", "content");
    else if (!same(before, after)) fields.push("content");
  }
  if (before.kind === "symlink" && after.kind === "symlink" && before.target !== after.target)
    fields.push("target");
  if ("major" in before && "major" in after)
    if (before.major !== after.major || before.minor !== after.minor) fields.push("device");
  return fields;
}

function changedAttributes(a: Attributes, b: Attributes): Field[] {
  const fields: Field[] = (["mode", "uid", "gid"] as const).filter((field) => a[field] !== b[field]);
  if (a.mtime !== b.mtime || a.mtimeNs !== b.mtimeNs) fields.push("mtime");
  const equal = [...a.xattrs].every(([key, value]) => {
    const other = b.xattrs.get(key);
    return other !== undefined && sameBytes(value, other);
  });
  if (!equal || a.xattrs.size !== b.xattrs.size) fields.push("xattrs");
  return fields;
}

/** Of nodes with several names: the first path. */
function firstPaths(root: Directory): ReadonlyMap<Node, string> {
  const seen = new Map<Node, string>();
  const linked = new Map<Node, string>();
  const waiting: [string, Directory][] = [["", root]];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [path, dir] = next;
    for (const [name, node] of sortedEntries(dir)) {
      const here = `${path}/${name}`;
      if (node.kind === "directory") waiting.push([here, node]);
      else {
        const other = seen.get(node);
        const first = other !== undefined && other < here ? other : here;
        seen.set(node, first);
        if (other !== undefined) linked.set(node, first);
      }
    }
  }
  return linked;
}
