/**
 * First half of writing a v5 bootstrap: every name gets its number and its place.
 *
 * @module
 */
import { type ByteString, printable } from "../../base/byte-string.ts";
import { corrupt, NydusError } from "../../base/error.ts";
import { alignUp } from "../../base/math.ts";
import { type BlobRef, type Directory, type Node, sortedEntries } from "../../tree/tree.ts";
import { chunkRecord } from "../chunk-record.ts";
import { MAX_XATTR_KEY, MAX_XATTR_VALUE, storableXattrs, type Xattrs } from "../xattr.ts";
import { inodeRecord, MAX_NAME, ROOT_NAME } from "./inode.ts";
import { ALIGNMENT } from "./superblock.ts";

/** One name with its number. A hard link's names have a record each. */
export interface PlannedName {
  readonly node: Node;
  readonly name: ByteString;
  /** Position in the inode table, from 1. */
  readonly number: number;
  /** Number of the directory; 0 for the root. */
  readonly parent: number;
  /** Directories: what is in them, in byte order of names. Their numbers are consecutive. */
  readonly children: PlannedName[];
  /** Directories: number of the first child, or the one it would have had. */
  firstChild: number;
  readonly shared: Shared;
  /** Byte offset, from where records start. */
  at: number;
}

/** What all names of a node have in common. */
export interface Shared {
  /** Number of the first name. */
  readonly ino: number;
  readonly xattrs: Xattrs;
  nlink: number;
}

export interface Plan {
  /** By number; the first one has number 1. */
  readonly names: readonly PlannedName[];
  readonly root: PlannedName;
  /** Nodes: hard links counted once. */
  readonly inodes: number;
  /** In the order in which files refer to them. */
  readonly blobs: readonly BlobRef[];
  /** Bytes of all records. */
  readonly size: number;
}

/** Takes a value's place in its directory. */
const ENTRY_COST = 8;
const BLOCK = 4096;

export function planNames(tree: Directory): Plan {
  return new Planner().plan(tree);
}

class Planner {
  readonly #names: PlannedName[] = [];
  readonly #shared = new Map<Node, Shared>();
  readonly #blobs = new Set<BlobRef>();
  #size = 0;

  plan(tree: Directory): Plan {
    const root = this.#number(tree, ROOT_NAME as ByteString, 0);
    this.#visit(root, tree);
    this.#place(root);
    const inodes = this.#shared.size;
    return { names: this.#names, root, inodes, blobs: [...this.#blobs], size: this.#size };
  }

  /** All that is in the directory, then what is in its directories. */
  #visit(dir: PlannedName, node: Directory): void {
    dir.firstChild = this.#names.length + 1;
    for (const [name, child] of sortedEntries(node)) {
      assertName(name);
      dir.children.push(this.#number(child, name, dir.number));
      if (child.kind === "file") for (const { blob } of child.chunks) this.#blobs.add(blob);
    }
    for (const child of dir.children) {
      if (child.node.kind !== "directory") continue;
      dir.shared.nlink++;
      this.#visit(child, child.node);
    }
  }

  #number(node: Node, name: ByteString, parent: number): PlannedName {
    const number = this.#names.length + 1;
    const known = this.#shared.get(node);
    if (known !== undefined && node.kind === "directory")
      throw new NydusError("internal", "Cannot lay out a directory with two names");
    const shared = known ?? {
      ino: number,
      xattrs: checkedXattrs(node),
      nlink: node.kind === "directory" ? 2 : 0,
    };
    if (node.kind !== "directory") shared.nlink++;
    this.#shared.set(node, shared);
    const planned = { node, name, number, parent, children: [], firstChild: 0, shared, at: 0 };
    this.#names.push(planned);
    return planned;
  }

  /** Records are in the order of paths, each directory in front of what is in it. */
  #place(planned: PlannedName): void {
    planned.at = this.#size;
    this.#size += recordSize(planned);
    for (const child of planned.children) this.#place(child);
  }
}

function assertName(name: ByteString): void {
  if (name.length > 0 && name.length <= MAX_NAME && name !== "." && name !== ".." && !/[/\0]/.test(name))
    return;
  throw corrupt(`Cannot store "${printable(name).slice(0, 100)}": no file can have it as its name`);
}

function checkedXattrs(node: Node): Xattrs {
  const xattrs = storableXattrs(node.attributes.xattrs);
  for (const [key, value] of xattrs)
    if (key.length > MAX_XATTR_KEY || value.byteLength > MAX_XATTR_VALUE)
      throw corrupt(`Cannot store xattr "${printable(key).slice(0, 100)}": its key or value is too long`);
  return xattrs;
}

/** Bytes of one xattr: a size in front, the key, a NUL, the value. */
export function pairSize(key: ByteString, value: Uint8Array): number {
  return 4 + key.length + 1 + value.byteLength;
}

/** Bytes of all pairs, without the size in front of them and without padding. */
export function pairsSize(xattrs: Xattrs): number {
  let size = 0;
  for (const [key, value] of xattrs) size += pairSize(key, value);
  return size;
}

/** What the inode says about its size. Directories have a made-up one, so that it is the same everywhere. */
export function sizeOf({ node, children }: PlannedName): number {
  switch (node.kind) {
    case "file":
      return node.size;
    case "symlink":
      return node.target.length;
    case "directory":
      return Math.max(
        BLOCK,
        alignUp(
          children.reduce((sum, { name }) => sum + name.length + ENTRY_COST, 0),
          BLOCK,
        ),
      );
    default:
      return 0;
  }
}

function recordSize({ node, name, shared }: PlannedName): number {
  const padded = (size: number): number => alignUp(size, ALIGNMENT);
  const target = node.kind === "symlink" ? padded(node.target.length) : 0;
  const xattrs = shared.xattrs.size === 0 ? 0 : 8 + padded(pairsSize(shared.xattrs));
  const chunks = node.kind === "file" ? node.chunks.length * chunkRecord.size : 0;
  return inodeRecord.size + padded(name.length) + target + xattrs + chunks;
}
