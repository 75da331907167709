/**
 * A bootstrap of either version behind one face: what serves, lists or copies images need not know which it has.
 *
 * @module
 */
import type { ChunkHasher } from "../base/digest.ts";
import type { ChunkRef, Directory } from "../tree/tree.ts";
import { type Bootstrap, openBootstrap } from "./bootstrap.ts";
import { type Examination, examineBootstrap, type Violation } from "./check.ts";
import { examineExternal, withAlignedChunks } from "./external.ts";
import { readTree as readTreeV6 } from "./tree-reader.ts";
import { V5Bootstrap } from "./v5/bootstrap.ts";
import { checkV5 } from "./v5/check.ts";
import { localOffset } from "./v5/local-space.ts";
import { isV5 } from "./v5/superblock-reader.ts";
import { readTree as readTreeV5 } from "./v5/tree-reader.ts";
import { writeBootstrapV5 } from "./v5/writer.ts";
import { type WriteOptions, writeBootstrap } from "./writer.ts";

/** Of RAFS. */
export type FsVersion = 5 | 6;

/**
 * Both have `rootNid`, `inode`, `lookup`, `readdir`, `readlink`, `xattrs` and `extents`, and their `blobs` are in the
 * order that extents and `loadChunkMaps` use. `version` tells them apart.
 */
export type RafsImage = Bootstrap | V5Bootstrap;

/**
 * Opens a bootstrap that is all in memory. Only its tables are proven: `checkImage` proves the whole. One with external
 * blobs becomes one that can be read like others (`external.ts`).
 *
 * @throws corrupt when superblocks or tables make no sense, unsupported for kinds of image we do not serve
 */
export function openImage(bytes: Uint8Array): RafsImage {
  return isV5(bytes) ? new V5Bootstrap(bytes) : openBootstrap(withAlignedChunks(bytes));
}

export async function examineImage(bytes: Uint8Array): Promise<Examination> {
  return isV5(bytes)
    ? { violations: await checkV5(bytes), chunkTableComplete: true }
    : (examineExternal(bytes) ?? examineBootstrap(bytes));
}

/** All that is wrong with a bootstrap, up to a thousand things; empty when it may be trusted. */
export async function checkImage(bytes: Uint8Array): Promise<Violation[]> {
  return (await examineImage(bytes)).violations;
}

export interface WriteImageOptions extends Omit<WriteOptions, "digester"> {
  readonly version: FsVersion;
  /** Of chunks; v5 has a digest of each inode too. */
  readonly hasher: ChunkHasher;
}

/** @throws corrupt for trees that no file system can have, unsupported for those that are too large */
export function writeImage(root: Directory, { version, hasher, ...options }: WriteImageOptions): Uint8Array {
  return version === 5
    ? writeBootstrapV5(root, { ...options, hasher })
    : writeBootstrap(root, { ...options, digester: hasher.algorithm });
}

/** The whole tree; its chunks have the addresses of the blobs' own spaces. @throws corrupt */
export function readTree(image: RafsImage): Directory {
  return image.version === 5 ? readTreeV5(image) : readTreeV6(image);
}

/** Where a chunk of `readTree` begins in the address space of its `ChunkMap`. */
export function chunkAddress({ version }: RafsImage, { uncompressedOffset, index }: ChunkRef): number {
  return version === 5 ? localOffset(uncompressedOffset, index) : uncompressedOffset;
}
