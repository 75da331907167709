/**
 * Inodes of either version of a bootstrap as nodes of the neutral tree.
 *
 * @module
 */
import { byteString } from "../base/byte-string.ts";
import type { Attributes, ChunkRef, Node } from "../tree/tree.ts";
import type { Bootstrap } from "./bootstrap.ts";
import { decodeDevice, type Kind } from "./inode.ts";

type Inodes = Pick<Bootstrap, "inode" | "readlink" | "xattrs">;

export function attributesOf(image: Inodes, id: number): Attributes {
  const { mode, uid, gid, mtime, mtimeNs } = image.inode(id);
  return { mode: mode & 0o7777, uid, gid, mtime, mtimeNs, xattrs: image.xattrs(id) };
}

/** @param chunks of a file; not asked for of anything else */
export function leafOf(
  image: Inodes,
  id: number,
  kind: Exclude<Kind, "directory">,
  chunks: () => ChunkRef[],
): Node {
  const attributes = attributesOf(image, id);
  const { size, rdev } = image.inode(id);
  switch (kind) {
    case "file":
      return { kind, attributes, size, chunks: chunks() };
    case "symlink":
      return { kind, attributes, target: byteString(image.readlink(id)) };
    case "char":
    case "block":
      return { kind, attributes, ...decodeDevice(rdev) };
    case "fifo":
    case "socket":
      return { kind, attributes };
  }
}
