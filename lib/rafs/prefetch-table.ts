/**
 * The prefetch table: inodes whose data is wanted first, in that order. One entry that is the root stands for
 * everything; it is what converters write who know nothing better.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import type { RafsImage } from "./image.ts";
import { unreadable } from "./superblock-reader.ts";

/** A path of PATH_MAX bytes cannot be deeper. */
const MAX_DEPTH = 2048;

/** Inode numbers as `image.inode` takes them; empty when the table names nothing in particular. */
export function prefetchInodes(image: RafsImage): number[] {
  const { offset, size } = image.superblock.prefetchTable;
  const found: number[] = [];
  for (let at = offset; at < offset + size; at += 4) {
    const nid = image.view.getUint32(at, true);
    // As the reference reads it.
    if (nid === 0) break;
    found.push(nid);
  }
  return found.includes(image.rootNid) ? [] : [...new Set(found)];
}

/** Names of the same inodes, in the table's order; of an inode with several names, the first. */
export function prefetchPaths(image: RafsImage): ByteString[] {
  const wanted = new Map<number, ByteString | undefined>(
    prefetchInodes(image).map((nid) => [nid, undefined]),
  );
  if (wanted.size === 0) return [];
  for (const { nid, path } of names(image, image.rootNid, "" as ByteString, 0))
    if (wanted.has(nid)) wanted.set(nid, wanted.get(nid) ?? path);
  return [...wanted.values()].filter((path) => path !== undefined);
}

function* names(
  image: RafsImage,
  nid: number,
  path: ByteString,
  depth: number,
): Generator<{ readonly nid: number; readonly path: ByteString }> {
  if (depth > MAX_DEPTH) throw unreadable(`directory ${nid} is reached in a circle`);
  for (const entry of image.readdir(nid)) {
    if (entry.name === "." || entry.name === "..") continue;
    const child = `${path}/${entry.name}` as ByteString;
    yield { nid: entry.nid, path: child };
    if (entry.type === "directory") yield* names(image, entry.nid, child, depth + 1);
  }
}
