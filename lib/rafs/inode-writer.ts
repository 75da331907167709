/**
 * Second half of writing a bootstrap: one planned node becomes bytes.
 *
 * @module
 */
import { bytesOf } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import type { BlobRef, ChunkRef, RegularFile } from "../tree/tree.ts";
import { MAX_CHUNKS, MAX_UNCOMPRESSED_SIZE } from "./blob-table.ts";
import { dirent, ENTRY_TYPES } from "./dirent.ts";
import {
  CHUNK_INDEXES,
  chunkIndex,
  EXTENDED,
  encodeDevice,
  extendedInode,
  LAYOUT,
  TYPE_BITS,
} from "./inode.ts";
import { isPlannedDirectory, nidOf, type Planned, type PlannedDirectory } from "./layout.ts";
import { writeXattrs, xattrCount } from "./xattr.ts";

const E = extendedInode.fields;
const X = chunkIndex.fields;
const D = dirent.fields;

export interface WritePlace {
  /** What planned offsets count from. */
  readonly base: number;
  /** Position of each blob in the blob table. */
  readonly order: ReadonlyMap<BlobRef, number>;
  readonly chunkSize: number;
  readonly blockSize: number;
}

export function writeInode(image: Uint8Array, view: DataView, planned: Planned, place: WritePlace): void {
  const { node, headSize, ino, nlink, size } = planned;
  const { mode, uid, gid, mtime, mtimeNs } = node.attributes;
  const at = place.base + planned.at;
  E.format.write(view, at, EXTENDED | (planned.layout << 1));
  E.xattrCount.write(view, at, xattrCount(headSize - extendedInode.size));
  E.mode.write(view, at, TYPE_BITS[node.kind] | mode);
  E.size.write(view, at, size);
  E.union.write(view, at, unionOf(planned, place));
  E.ino.write(view, at, ino);
  E.uid.write(view, at, uid);
  E.gid.write(view, at, gid);
  E.mtime.write(view, at, mtime);
  E.mtimeNs.write(view, at, mtimeNs);
  E.nlink.write(view, at, nlink);
  writeXattrs(image, view, at + extendedInode.size, planned.xattrs);
  if (node.kind === "file") writeIndexes(view, alignUp(at + headSize, 8), node.chunks, place);
  else if (node.kind === "symlink") writeData(image, planned, place, bytesOf(node.target));
  else if (isPlannedDirectory(planned))
    writeData(image, planned, place, directoryData(planned, place.blockSize));
}

function unionOf({ node, dataAt }: Planned, { base, chunkSize, blockSize }: WritePlace): number {
  switch (node.kind) {
    case "file":
      return CHUNK_INDEXES | Math.log2(kernelChunkSize(node, chunkSize) / blockSize);
    case "directory":
    case "symlink":
      // Of inline data without full blocks it is where they would be, as in the reference.
      return Math.floor((base + dataAt) / blockSize);
    case "char":
    case "block":
      return encodeDevice(node.major, node.minor);
    case "fifo":
    case "socket":
      return 0;
  }
}

/**
 * The kernel maps a file chunk by chunk. One whose chunks lie side by side in one blob is given a single large chunk;
 * it has the small ones' indexes all the same, for readers that count in the image's chunk size.
 */
function kernelChunkSize({ chunks, size }: RegularFile, chunkSize: number): number {
  if (size <= chunkSize) return chunkSize;
  const together = chunks.every((chunk, i) => {
    const before = chunks[i - 1];
    return (
      before === undefined ||
      (before.blob === chunk.blob && before.uncompressedOffset + chunkSize === chunk.uncompressedOffset)
    );
  });
  return together ? 2 ** Math.ceil(Math.log2(size)) : chunkSize;
}

function writeIndexes(
  view: DataView,
  offset: number,
  chunks: readonly ChunkRef[],
  { order, blockSize }: WritePlace,
): void {
  chunks.forEach(({ blob, index, uncompressedOffset }, i) => {
    if (
      index >= MAX_CHUNKS ||
      uncompressedOffset % blockSize !== 0 ||
      uncompressedOffset >= MAX_UNCOMPRESSED_SIZE
    ) {
      throw corrupt(
        `Cannot store chunk ${index} of blob ${blob.id}: offset ${uncompressedOffset} cannot be written`,
      );
    }
    const at = offset + i * chunkIndex.size;
    X.ordinalLow.write(view, at, index & 0xffff);
    X.device.write(view, at, (((index >> 16) & 0xff) << 8) | ((order.get(blob) ?? 0) + 1));
    X.block.write(view, at, uncompressedOffset / blockSize);
  });
}

/** Full blocks to their place, the tail behind the inode. */
function writeData(image: Uint8Array, planned: Planned, place: WritePlace, data: Uint8Array): void {
  const { base, blockSize } = place;
  const full =
    planned.layout === LAYOUT.inline ? data.byteLength - (data.byteLength % blockSize) : data.byteLength;
  image.set(data.subarray(0, full), base + planned.dataAt);
  image.set(data.subarray(full), base + planned.at + planned.headSize);
}

function directoryData(planned: PlannedDirectory, blockSize: number): Uint8Array {
  const data = new Uint8Array(planned.size);
  const view = new DataView(data.buffer);
  let block: PlannedDirectory["entries"] = [];
  let used = 0;
  let start = 0;
  const flush = (): void => {
    let nameOffset = block.length * dirent.size;
    block.forEach(([name, target], i) => {
      const at = start + i * dirent.size;
      D.nid.write(view, at, nidOf(target));
      D.nameOffset.write(view, at, nameOffset);
      D.type.write(view, at, ENTRY_TYPES[target.node.kind]);
      data.set(bytesOf(name), start + nameOffset);
      nameOffset += name.length;
    });
    start += blockSize;
    block = [];
    used = 0;
  };
  for (const entry of planned.entries) {
    const cost = dirent.size + entry[0].length;
    if (used + cost > blockSize) flush();
    block.push(entry);
    used += cost;
  }
  flush();
  return data;
}
