/**
 * The blobs that the files of a tree refer to.
 *
 * @module
 */
import type { BlobRef, Directory } from "./tree.ts";

export function blobsOf(root: Directory): ReadonlySet<BlobRef> {
  const blobs = new Set<BlobRef>();
  const waiting = [root];
  for (let dir = waiting.pop(); dir !== undefined; dir = waiting.pop()) {
    for (const node of dir.entries.values()) {
      if (node.kind === "directory") waiting.push(node);
      else if (node.kind === "file") for (const { blob } of node.chunks) blobs.add(blob);
    }
  }
  return blobs;
}
