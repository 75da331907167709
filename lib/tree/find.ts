/**
 * One node of a tree by its path.
 *
 * @module
 */
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { NydusError } from "../base/error.ts";
import { pathNames, shownPath } from "./path.ts";
import type { Directory, Node } from "./tree.ts";

/**
 * Symbolic links are not followed.
 *
 * @param path with or without a leading "/"; "/" is the root
 * @returns undefined when the tree has nothing there. @throws corrupt for a path that leads out of the root
 */
export function findNode(root: Directory, path: ByteString): Node | undefined {
  let node: Node | undefined = root;
  for (const name of pathNames(path)) node = node?.kind === "directory" ? node.entries.get(name) : undefined;
  return node;
}

/** As people write the path. @throws not_found */
export function nodeAt(root: Directory, path: string): Node {
  const node = findNode(root, byteStringOf(path));
  if (node !== undefined) return node;
  throw new NydusError(
    "not_found",
    `Cannot find "${shownPath(byteStringOf(path))}": the image has no such path`,
  );
}
