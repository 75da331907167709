/**
 * Where the chunks of a v5 blob lie on this machine.
 *
 * v5 packs chunks without gaps, but the cache, its ready map and EROFS need each chunk to start on a 4 KiB block of its
 * own. So every blob gets a second, local address space. A chunk's place in it follows from what its record says, and
 * from nothing else: images that use different chunks of a blob agree on all places, and share one cache file.
 *
 * Chunk number i at packed offset u goes to floor(u / 4096) * 4096 + i * 4096. Its l bytes need at most
 * floor(l / 4096) * 4096 + 4096, and chunk i + 1 starts at u + l or later, hence that far away or farther. The gaps are
 * holes of a sparse file.
 *
 * @module
 */
import { alignDown, alignUp } from "../../base/math.ts";
import { BLOCK_SIZE } from "../superblock.ts";

/**
 * @param packedOffset in the blob's own uncompressed address space
 * @param index ordinal of the chunk in its blob; grows with the offset
 */
export function localOffset(packedOffset: number, index: number): number {
  return alignDown(packedOffset, BLOCK_SIZE) + index * BLOCK_SIZE;
}

/** Bytes of the local space of a blob: a multiple of 4096. */
export function localSize(packedSize: number, chunkCount: number): number {
  return alignUp(packedSize, BLOCK_SIZE) + chunkCount * BLOCK_SIZE;
}
