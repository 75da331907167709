/**
 * What the kernel reads ahead of itself differs from start to start by some hundred kilobytes. Once an image's start is
 * known, what lies that far behind everything that was read is fetched too, so that the next start on the node needs
 * nothing from the source.
 *
 * @module
 */
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { BLOCK, isReady, type ReadyMap } from "./ready-map.ts";

/** Uncompressed bytes: what the kernel may read ahead of itself in a file (128 KiB), and in the blob below it. */
export const MARGIN = 256 << 10;

/** Chunks that begin at most `MARGIN` behind a block that was read, those that were read included. */
export function chunksInMargins(map: ChunkMap, touched: ReadyMap): number[] {
  const found: number[] = [];
  let until = -1;
  for (let chunk = 0; chunk < map.count; chunk++) {
    const start = map.uncompressedOffset[chunk] ?? 0;
    const end = start + (map.uncompressedLength[chunk] ?? 0);
    for (let at = start; at < end; at += BLOCK) if (isReady(touched, at, at + 1)) until = at + BLOCK + MARGIN;
    if (start < until) found.push(chunk);
  }
  return found;
}
