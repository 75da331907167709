/**
 * The names of a bootstrap with the numbers of their inodes, which a file tree does not have.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import type { RafsImage } from "../rafs/image.ts";
import type { Kind } from "../rafs/inode.ts";
import { pathNames } from "../tree/path.ts";

export interface Entry {
  /** From the root: "/etc/passwd"; "/" is the root itself. */
  readonly path: ByteString;
  /** v6: nid. v5: inode number. The names of a hard link share it. */
  readonly nid: number;
  readonly kind: Kind;
}

/** Directories before what is in them, names in byte order. Of a bootstrap that has been checked. */
export function* entriesOf(image: RafsImage): Generator<Entry, undefined> {
  const root: Entry = { path: "/" as ByteString, nid: image.rootNid, kind: "directory" };
  const waiting: Entry[] = [root];
  for (let entry = waiting.pop(); entry !== undefined; entry = waiting.pop()) {
    yield entry;
    if (entry.kind !== "directory") continue;
    const { path, nid } = entry;
    const below = [...image.readdir(nid)].filter(({ name }) => name !== "." && name !== "..");
    for (const child of below.reverse())
      waiting.push({
        path: `${path === "/" ? "" : path}/${child.name}` as ByteString,
        nid: child.nid,
        kind: child.type,
      });
  }
}

/** The inode number of one path; undefined when there is nothing. Symbolic links are not followed. */
export function findNid(image: RafsImage, path: ByteString): number | undefined {
  let nid: number | undefined = image.rootNid;
  for (const name of pathNames(path)) {
    if (nid === undefined || image.raw(nid).kind !== "directory") return undefined;
    nid = image.lookup(nid, name);
  }
  return nid;
}
