/**
 * Walks over the nodes of an image without making a tree of them.
 *
 * @module
 */
import type { Bootstrap } from "./bootstrap.ts";
import type { RawInode } from "./inode-reader.ts";

/** Every node but directories, each once. For bootstraps that `checkBootstrap` has passed. */
export function* leaves(image: Bootstrap): Generator<RawInode, undefined> {
  const seen = new Set<number>();
  const waiting = [image.rootNid];
  for (let nid = waiting.pop(); nid !== undefined; nid = waiting.pop())
    for (const entry of image.readdir(nid)) {
      if (entry.name === "." || entry.name === ".." || seen.has(entry.nid)) continue;
      seen.add(entry.nid);
      if (entry.type === "directory") waiting.push(entry.nid);
      else yield image.raw(entry.nid);
    }
}
