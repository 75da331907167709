/**
 * From files of an image to the parts of its blobs that hold their data.
 *
 * @module
 */
import { byteStringOf } from "../base/byte-string.ts";
import type { Trace, TracedRange } from "../blob/trace.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import type { RafsImage } from "../rafs/image.ts";
import { prefetchInodes } from "../rafs/prefetch-table.ts";

/** What the bootstrap's own prefetch table names. One that names everything says nothing, and gives nothing. */
export function tableRanges(image: RafsImage): Trace {
  return rangesOf(image, prefetchInodes(image));
}

/** Files, and all that is below directories. What the image does not have is passed over, as by the reference. */
export function pathRanges(image: RafsImage, paths: readonly string[]): Trace {
  return rangesOf(
    image,
    paths.flatMap((path) => findInode(image, path) ?? []),
  );
}

/** Blobs that hold what a start reads, in that order, as indexes into `image.blobs`. */
export function hotBlobs(image: RafsImage): number[] {
  return image.blobs.flatMap(({ features }, i) =>
    (features & BLOB_FEATURES.separatedPrefetch) !== 0 ? [i] : [],
  );
}

function findInode(image: RafsImage, path: string): number | undefined {
  let nid: number | undefined = image.rootNid;
  for (const name of path.split("/")) {
    if (name === "" || name === ".") continue;
    if (nid === undefined || !isDirectory(image, nid)) return undefined;
    nid = image.lookup(nid, byteStringOf(name));
  }
  return nid;
}

const TYPE = 0o170000;
const DIRECTORY = 0o040000;
const REGULAR = 0o100000;

function isDirectory(image: RafsImage, nid: number): boolean {
  return (image.inode(nid).mode & TYPE) === DIRECTORY;
}

function rangesOf(image: RafsImage, inodes: readonly number[]): Trace {
  const ranges: TracedRange[] = [];
  const seen = new Set<number>();
  const waiting = [...inodes].reverse();
  for (let nid = waiting.pop(); nid !== undefined; nid = waiting.pop()) {
    if (seen.has(nid)) continue;
    seen.add(nid);
    const { mode, size } = image.inode(nid);
    if ((mode & TYPE) === DIRECTORY) {
      const children = [...image.readdir(nid)].filter(({ name }) => name !== "." && name !== "..");
      for (const child of children.reverse()) waiting.push(child.nid);
    } else if ((mode & TYPE) === REGULAR) {
      for (const { blob, offset, length } of image.extents(nid, 0, size)) {
        const blobId = image.blobs[blob]?.id;
        if (blobId !== undefined) ranges.push({ blobId, offset, length });
      }
    }
  }
  return ranges;
}
