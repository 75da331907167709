/**
 * Second half of writing a v5 bootstrap: one name becomes a record.
 *
 * @module
 */
import { bytesOf } from "../../base/byte-string.ts";
import { corrupt } from "../../base/error.ts";
import { alignUp } from "../../base/math.ts";
import type { BlobRef, ChunkRef, Node } from "../../tree/tree.ts";
import { MAX_CHUNKS, MAX_UNCOMPRESSED_SIZE } from "../blob-table.ts";
import { chunkRecord } from "../chunk-record.ts";
import { assertDigest } from "../chunk-table.ts";
import { CHUNK_FLAGS } from "../flags.ts";
import { encodeDevice, TYPE_BITS } from "../inode.ts";
import type { Xattrs } from "../xattr.ts";
import { INODE_FLAGS, inodeRecord } from "./inode.ts";
import { type PlannedName, pairSize, pairsSize, sizeOf } from "./plan.ts";
import { ALIGNMENT } from "./superblock.ts";

export interface RecordPlace {
  /** Byte offset of the record. */
  readonly at: number;
  readonly digest: Uint8Array;
  /** Position of each blob in the blob table. */
  readonly order: ReadonlyMap<BlobRef, number>;
  readonly chunkSize: number;
}

const SECTOR = 512;
/** As the reference writes it from tars; nothing reads it. */
const NO_DEVICE = 0xffff_ffff;

export function writeInode(
  image: Uint8Array,
  view: DataView,
  planned: PlannedName,
  place: RecordPlace,
): void {
  const { node, name, parent, firstChild, children, shared } = planned;
  const { mode, uid, gid, mtime, mtimeNs } = node.attributes;
  const size = sizeOf(planned);
  const xattrsSize = alignUp(pairsSize(shared.xattrs), ALIGNMENT);
  inodeRecord.write(view, place.at, {
    digest: place.digest,
    parent,
    ino: shared.ino,
    uid,
    gid,
    mode: TYPE_BITS[node.kind] | mode,
    size,
    blocks: Math.ceil((size + xattrsSize) / SECTOR),
    flags: flagsOf(planned),
    nlink: shared.nlink,
    childIndex: firstChild,
    childCount: node.kind === "file" ? node.chunks.length : children.length,
    nameSize: name.length,
    targetSize: node.kind === "symlink" ? node.target.length : 0,
    rdev: deviceOf(node),
    mtimeNs,
    mtime,
  });
  let at = place.at + inodeRecord.size;
  image.set(bytesOf(name), at);
  at += alignUp(name.length, ALIGNMENT);
  if (node.kind === "symlink") {
    image.set(bytesOf(node.target), at);
    at += alignUp(node.target.length, ALIGNMENT);
  }
  if (shared.xattrs.size > 0) {
    writeXattrs(image, view, at, shared.xattrs);
    at += 8 + xattrsSize;
  }
  if (node.kind === "file") writeChunks(view, at, node.chunks, place);
}

function flagsOf({ node, shared }: PlannedName): number {
  return (
    (node.kind === "symlink" ? INODE_FLAGS.symlink : 0) |
    (node.kind !== "directory" && shared.nlink > 1 ? INODE_FLAGS.hardlink : 0) |
    (shared.xattrs.size > 0 ? INODE_FLAGS.hasXattr : 0)
  );
}

function deviceOf(node: Node): number {
  switch (node.kind) {
    case "char":
    case "block":
      return encodeDevice(node.major, node.minor);
    case "fifo":
    case "socket":
      return 0;
    default:
      return NO_DEVICE;
  }
}

/** In the order of their keys, so that the same tree always gives the same bytes. */
function writeXattrs(image: Uint8Array, view: DataView, offset: number, xattrs: Xattrs): void {
  view.setUint32(offset, pairsSize(xattrs), true);
  let at = offset + 8;
  for (const [key, value] of [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const size = pairSize(key, value);
    view.setUint32(at, size - 4, true);
    image.set(bytesOf(key), at + 4);
    image.set(value, at + size - value.byteLength);
    at += size;
  }
}

function writeChunks(
  view: DataView,
  offset: number,
  chunks: readonly ChunkRef[],
  { order, chunkSize }: RecordPlace,
): void {
  for (const [i, whole] of chunks.entries()) {
    assertDigest(whole);
    const { blob, compressed, crc, ...chunk } = whole;
    if (chunk.index >= MAX_CHUNKS || chunk.uncompressedOffset >= MAX_UNCOMPRESSED_SIZE)
      throw corrupt(`Cannot store chunk ${chunk.index} of blob ${blob.id}: it lies past the end of any blob`);
    chunkRecord.write(view, offset + i * chunkRecord.size, {
      ...chunk,
      blob: order.get(blob) ?? 0,
      flags: (compressed ? CHUNK_FLAGS.compressed : 0) | (crc !== 0 ? CHUNK_FLAGS.hasCrc : 0),
      fileOffset: i * chunkSize,
      crc,
    });
  }
}
