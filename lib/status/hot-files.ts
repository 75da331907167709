/**
 * Which files of an image were read, from the ranges of its blobs that were.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { printable } from "../base/byte-string.ts";
import type { TracedRange } from "../blob/trace.ts";
import type { ImageReads } from "../mount/image-mounts.ts";
import { chunkAddress, openImage, readTree } from "../rafs/image.ts";
import { visits } from "../tree/walk.ts";

export interface HotFile {
  /** From the image's root, with a leading "/". */
  readonly path: string;
  readonly size: number;
  /** How much of it was read, in whole chunks. */
  readonly bytes: number;
}

/** The files of which most was read, at most `count`. The bootstrap is of a mounted image: it was checked. */
export async function hotFiles(
  { bootstrap, ranges }: ImageReads,
  count: number,
): Promise<readonly HotFile[]> {
  const image = openImage(new Uint8Array(await readFile(bootstrap)));
  const read = new Map<string, Ranges>();
  for (const [blob, own] of Map.groupBy(ranges, ({ blobId }) => blobId)) read.set(blob, new Ranges(own));
  const found: HotFile[] = [];
  for (const visit of visits(readTree(image))) {
    if (visit.kind === "leave" || visit.node.kind !== "file" || visit.first !== undefined) continue;
    let bytes = 0;
    for (const chunk of visit.node.chunks) {
      const at = chunkAddress(image, chunk);
      if (read.get(chunk.blob.id)?.touch(at) === true) bytes += chunk.uncompressedSize;
    }
    if (bytes > 0) found.push({ path: `/${printable(visit.path)}`, size: visit.node.size, bytes });
  }
  return found.sort((a, b) => b.bytes - a.bytes || (a.path < b.path ? -1 : 1)).slice(0, count);
}

/** Ranges that do not overlap. */
class Ranges {
  readonly #sorted: readonly TracedRange[];

  constructor(ranges: readonly TracedRange[]) {
    this.#sorted = ranges.toSorted((a, b) => a.offset - b.offset);
  }

  /** Whether one of them has this byte. */
  touch(offset: number): boolean {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle]?.offset ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    const last = this.#sorted[low - 1];
    return last !== undefined && offset < last.offset + last.length;
  }
}
