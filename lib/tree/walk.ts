/**
 * Visits a tree in the order in which it is written out: directories before what is in them, names in byte order.
 *
 * @module
 */
import { type ByteString, printable } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";
import { type ChunkRef, type Directory, type Node, sortedEntries } from "./tree.ts";

export interface Enter {
  readonly kind: "enter";
  /** From the root, without a leading "/"; "" is the root itself. */
  readonly path: ByteString;
  /** Last component of the path. */
  readonly name: ByteString;
  readonly node: Node;
  /** The node has been visited under this path already: this one is a hard link to it. */
  readonly first?: ByteString;
}

/** All of a directory has been visited. */
export interface Leave {
  readonly kind: "leave";
  readonly path: ByteString;
  readonly name: ByteString;
  readonly node: Directory;
}

export type Visit = Enter | Leave;

/**
 * Iterative: a tree may be deeper than the stack allows generators to nest.
 *
 * @throws corrupt for a name that is none: whoever writes it would write elsewhere
 */
export function* visits(root: Directory): Generator<Visit, undefined> {
  const firsts = new Map<Node, ByteString>();
  const empty = "" as ByteString;
  const waiting: Visit[] = [{ kind: "enter", path: empty, name: empty, node: root }];
  for (let visit = waiting.pop(); visit !== undefined; visit = waiting.pop()) {
    const { kind, path, name, node } = visit;
    if (node.kind !== "directory") {
      const first = firsts.get(node);
      if (first === undefined) firsts.set(node, path);
      yield first === undefined ? visit : { kind: "enter", path, name, node, first };
      continue;
    }
    yield visit;
    if (kind === "leave") continue;
    waiting.push({ kind: "leave", path, name, node });
    for (const [child, below] of sortedEntries(node).reverse())
      waiting.push({ kind: "enter", path: joined(path, child), name: child, node: below });
  }
}

function joined(path: ByteString, name: ByteString): ByteString {
  if (name === "" || name === "." || name === ".." || /[/\0]/.test(name))
    throw corrupt(`Cannot use the name "${printable(name)}" in "/${printable(path)}": no file can have it`);
  return (path === "" ? name : `${path}/${name}`) as ByteString;
}

/** The chunks of all files in the order of the walk, those of a hard-linked file once. */
export function* chunksInOrder(root: Directory): Generator<ChunkRef, undefined> {
  for (const visit of visits(root))
    if (visit.kind === "enter" && visit.first === undefined && visit.node.kind === "file")
      yield* visit.node.chunks;
}
