/**
 * Writes v5 bootstraps, byte for byte as the reference does from tars (its xattr order is random; ours is by key):
 * superblock, inode table, prefetch table, blob tables, then a record a name.
 *
 * @module
 */
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import type { ChunkHasher } from "../../base/digest.ts";
import { NydusError } from "../../base/error.ts";
import { alignUp } from "../../base/math.ts";
import { viewOf } from "../../base/struct.ts";
import type { BlobRef, Directory } from "../../tree/tree.ts";
import { type BlobInfo, MAX_BLOBS } from "../blob-table.ts";
import { BLOB_FEATURES, COMPRESSOR_FLAGS, DIGESTER_FLAGS, SUPERBLOCK_FLAGS } from "../flags.ts";
import { RAFS_V5_MAGIC } from "../superblock.ts";
import type { WriteOptions } from "../writer.ts";
import { extendedEntry, idHead } from "./blob-table.ts";
import { digestNames } from "./inode-digest.ts";
import { writeInode } from "./inode-writer.ts";
import { type Plan, type PlannedName, planNames } from "./plan.ts";
import { ALIGNMENT, MAX_LENGTH, SUPERBLOCK_SIZE, superblock, V5_VERSION } from "./superblock.ts";

/** What the blob tables say. The uncompressed size is of the stored address space, without gaps between chunks. */
type BlobFacts = Pick<BlobInfo, "id" | "chunkCount" | "features" | "compressedSize" | "uncompressedSize">;

export interface V5WriteOptions extends Omit<WriteOptions, "blobs" | "digester" | "hasXattr"> {
  /** Of chunks, and of inodes, which are hashed here. */
  readonly hasher: ChunkHasher;
  readonly blobs: ReadonlyMap<BlobRef, BlobFacts> | ((blob: BlobRef) => BlobFacts | undefined);
}

/** Byte offsets of everything, before anything is written. */
interface Frame {
  readonly prefetch: readonly number[];
  readonly prefetchTable: number;
  readonly blobTable: number;
  readonly blobTableSize: number;
  readonly extendedTable: number;
  /** Where records start. */
  readonly records: number;
  readonly length: number;
}

const ROOT = byteStringOf("/");

/** @throws unsupported when the image is too large for v5 */
export function writeBootstrapV5(root: Directory, options: V5WriteOptions): Uint8Array {
  const plan = planNames(root);
  const blobs = plan.blobs.map((blob) => factsOf(blob, options.blobs));
  const frame = planFrame(plan, blobs, options.prefetch ?? [ROOT]);
  assertLimits(plan, frame);
  const image = new Uint8Array(frame.length);
  const view = viewOf(image);
  writeSuperblock(view, plan, frame, blobs.length, options);
  for (const { number, at } of plan.names)
    view.setUint32(SUPERBLOCK_SIZE + 4 * (number - 1), (frame.records + at) / ALIGNMENT, true);
  for (const [i, number] of frame.prefetch.entries())
    view.setUint32(frame.prefetchTable + 4 * i, number, true);
  writeBlobs(image, view, frame, blobs);
  const order = new Map(plan.blobs.map((blob, i) => [blob, i]));
  const digests = digestNames(plan, options.hasher);
  for (const planned of plan.names)
    writeInode(image, view, planned, {
      at: frame.records + planned.at,
      digest: digests[planned.number - 1] ?? new Uint8Array(32),
      order,
      chunkSize: options.chunkSize,
    });
  return image;
}

function factsOf(blob: BlobRef, infos: V5WriteOptions["blobs"]): BlobFacts {
  const info = typeof infos === "function" ? infos(blob) : infos.get(blob);
  if (info !== undefined) return info;
  throw new NydusError("internal", `Cannot write the bootstrap: nothing is known about blob ${blob.id}`);
}

function planFrame(plan: Plan, blobs: readonly BlobFacts[], paths: readonly ByteString[]): Frame {
  const padded = (size: number): number => alignUp(size, ALIGNMENT);
  const prefetch = paths.flatMap((path) => findNumber(plan.root, path));
  const prefetchTable = SUPERBLOCK_SIZE + padded(4 * plan.names.length);
  const blobTable = prefetchTable + padded(4 * prefetch.length);
  // A NUL between two entries, and none behind the last.
  const ids = blobs.reduce((sum, { id }) => sum + idHead.size + id.length + 1, 0);
  const blobTableSize = padded(Math.max(0, ids - 1));
  const extendedTable = blobTable + blobTableSize;
  const records = extendedTable + extendedEntry.size * blobs.length;
  const length = records + plan.size;
  return { prefetch, prefetchTable, blobTable, blobTableSize, extendedTable, records, length };
}

/** Paths that nothing has are passed over, as the reference does. */
function findNumber(root: PlannedName, path: ByteString): number[] {
  let here: PlannedName | undefined = root;
  for (const wanted of path.split("/"))
    if (wanted !== "") here = here?.children.find(({ name }) => name === wanted);
  return here === undefined ? [] : [here.number];
}

function assertLimits({ blobs }: Plan, { length }: Frame): void {
  const past =
    blobs.length > MAX_BLOBS
      ? `it needs ${blobs.length} blobs, more than ${MAX_BLOBS}`
      : length > MAX_LENGTH
        ? "it needs more than 2 GiB; RAFS v6 has room for more"
        : undefined;
  if (past !== undefined) throw new NydusError("unsupported", `Cannot write the bootstrap: ${past}`);
}

function writeSuperblock(
  view: DataView,
  plan: Plan,
  frame: Frame,
  blobs: number,
  { chunkSize, compressor, hasher, explicitOwner }: V5WriteOptions,
): void {
  const hasXattr = plan.names.some(({ shared }) => shared.xattrs.size > 0);
  const flags =
    COMPRESSOR_FLAGS[compressor] |
    DIGESTER_FLAGS[hasher.algorithm] |
    (explicitOwner === false ? 0 : SUPERBLOCK_FLAGS.explicitOwner) |
    (hasXattr ? SUPERBLOCK_FLAGS.hasXattr : 0);
  superblock.write(view, 0, {
    magic: RAFS_V5_MAGIC,
    version: V5_VERSION,
    size: SUPERBLOCK_SIZE,
    chunkSize,
    flags: BigInt(flags),
    inodes: plan.inodes,
    inodeTableOffset: SUPERBLOCK_SIZE,
    inodeTableEntries: plan.names.length,
    prefetchTableOffset: frame.prefetchTable,
    prefetchTableEntries: frame.prefetch.length,
    blobTableOffset: frame.blobTable,
    blobTableSize: frame.blobTableSize,
    extendedTableOffset: frame.extendedTable,
    extendedTableEntries: blobs,
  });
}

/** What v5 knows nothing of: it has no compression information, and no table of contents. */
const V5_FEATURES = BLOB_FEATURES.inlinedBootstrap | BLOB_FEATURES.tarHeaders | BLOB_FEATURES.capTarToc;

function writeBlobs(image: Uint8Array, view: DataView, frame: Frame, blobs: readonly BlobFacts[]): void {
  let at = frame.blobTable;
  for (const [i, { id, chunkCount, features, uncompressedSize, compressedSize }] of blobs.entries()) {
    image.set(bytesOf(byteStringOf(id)), at + idHead.size);
    at += idHead.size + id.length + 1;
    const facts = { chunkCount, features: features & V5_FEATURES, uncompressedSize, compressedSize };
    extendedEntry.write(view, frame.extendedTable + i * extendedEntry.size, facts);
  }
}
