/**
 * What differs between two file trees, attribute by attribute and down to where content begins to differ.
 *
 * @module
 */
import { type ByteString, printable } from "../base/byte-string.ts";
import { sameBytes } from "../base/digest.ts";
import { type Difference as Changed, diffTrees, type Field } from "../tree/diff.ts";
import type { Attributes, Node } from "../tree/tree.ts";
import type { ChunkFormat, ContentOptions, ContentSource, ContentTree } from "./content-tree.ts";

export type { Field } from "../tree/diff.ts";

/** One value on either side, as text; "" for none. */
export interface ChangedField {
  readonly field: Field;
  readonly before: string;
  readonly after: string;
}

export interface Difference {
  readonly path: string;
  readonly change: "added" | "removed" | "changed";
  /** What was added or removed is. */
  readonly kind: Node["kind"];
  /** Of what changed; at least one. */
  readonly fields: readonly ChangedField[];
}

export interface DiffOptions extends ContentOptions {
  /** Fields that may differ; a node that differs in nothing else is the same. */
  readonly ignore?: ReadonlySet<Field>;
}

/** When neither side has a format of its own. */
const ANY_FORMAT: ChunkFormat = { chunkSize: 2 ** 20, digester: "sha256" };

/**
 * In byte order of paths. Content of a Nydus image is only fetched when the other side is a Nydus image that is cut or
 * hashed in another way.
 *
 * @throws corrupt, and what reading either side throws
 */
export async function* diffContents(
  before: ContentSource,
  after: ContentSource,
  options: DiffOptions = {},
): AsyncGenerator<Difference, undefined> {
  const format = before.format ?? after.format ?? ANY_FORMAT;
  const [a, b] = [await before.tree(format, options), await after.tree(format, options)];
  const sides = { a, b, chunkSize: format.chunkSize };
  for (const found of diffTrees(a.root, b.root, (x, y) => firstDifference(a.digests(x), b.digests(y)) < 0)) {
    const fields = found.fields.filter((field) => options.ignore?.has(field) !== true);
    if (found.change === "changed" && fields.length === 0) continue;
    yield described({ ...found, fields }, sides);
  }
}

/** Index of the first chunk that differs, or -1. */
function firstDifference(a: readonly Uint8Array[], b: readonly Uint8Array[]): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) {
    const [x, y] = [a[i], b[i]];
    if (x === undefined || y === undefined || !sameBytes(x, y)) return i;
  }
  return a.length === b.length ? -1 : shorter;
}

interface Sides {
  readonly a: ContentTree;
  readonly b: ContentTree;
  readonly chunkSize: number;
}

function described({ path, change, fields, before, after, links }: Changed, sides: Sides): Difference {
  const kind = (after ?? before)?.kind ?? "file";
  return {
    path: printable(path),
    change,
    kind,
    fields: fields.map((field) => {
      if (field === "content" && before !== undefined && after !== undefined)
        return { field, ...contentTexts(before, after, sides) };
      if (field === "link") return { field, before: linkText(links[0]), after: linkText(links[1]) };
      return { field, before: textOf(before, field, after), after: textOf(after, field, before) };
    }),
  };
}

/** The name that the file is a hard link to. */
function linkText(first: string | undefined): string {
  return first === undefined ? "" : printable(first as ByteString);
}

/** As near as chunks tell. */
function contentTexts(
  before: Node,
  after: Node,
  { a, b, chunkSize }: Sides,
): { before: string; after: string } {
  if (before.kind !== "file" || after.kind !== "file") return { before: "", after: "" };
  const [x, y] = [a.digests(before), b.digests(after)];
  const first = firstDifference(x, y);
  if (first < 0) return { before: "", after: "" };
  const text = (digests: readonly Uint8Array[]): string => {
    const digest = digests[first];
    const shown = digest === undefined ? "ends" : Buffer.from(digest).toString("hex").slice(0, 12);
    return `${shown} at ${first * chunkSize}`;
  };
  return { before: text(x), after: text(y) };
}

function textOf(node: Node | undefined, field: Field, other: Node | undefined): string {
  if (node === undefined) return "";
  const { attributes } = node;
  switch (field) {
    case "type":
      return node.kind;
    case "mode":
      return `0${attributes.mode.toString(8).padStart(3, "0")}`;
    case "uid":
    case "gid":
      return String(attributes[field]);
    case "mtime":
      return `${attributes.mtime}.${String(attributes.mtimeNs).padStart(9, "0")}`;
    case "xattrs":
      return changedXattrs(attributes, other?.attributes);
    case "size":
      return node.kind === "file" ? String(node.size) : "";
    case "target":
      return node.kind === "symlink" ? printable(node.target) : "";
    case "device":
      return "major" in node ? `${node.major}:${node.minor}` : "";
    case "content":
    case "link":
      return "";
  }
}

/** Those that the other side has not, or otherwise. */
function changedXattrs({ xattrs }: Attributes, other: Attributes | undefined): string {
  const own = [...xattrs].filter(([key, value]) => {
    const theirs = other?.xattrs.get(key);
    return theirs === undefined || !sameBytes(value, theirs);
  });
  return own
    .map(([key, value]) => `${printable(key)}=0x${Buffer.from(value).toString("hex")}`)
    .sort()
    .join(" ");
}
