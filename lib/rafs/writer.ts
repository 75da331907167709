/**
 * Writes v6 bootstraps, byte for byte as the reference lays them out (its xattr order is random; ours is by key). The
 * layout is planned first, then everything is written once, at its final place.
 *
 * @module
 */
import { type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { viewOf } from "../base/struct.ts";
import type { BlobRef, Directory } from "../tree/tree.ts";
import { type BlobInfo, blobEntry, MAX_BLOBS, writeBlobEntry } from "./blob-table.ts";
import { chunkRecord } from "./chunk-record.ts";
import { assertDigest, chunkEntries, writeChunkTable } from "./chunk-table.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { BLOB_FEATURES, COMPRESSOR_FLAGS, DIGESTER_FLAGS, SUPERBLOCK_FLAGS } from "./flags.ts";
import { writeInode } from "./inode-writer.ts";
import { isPlannedDirectory, type Layout, nidOf, type Planned, planLayout } from "./layout.ts";
import {
  BLOCK_SIZE,
  COMPAT_RAFS_V6,
  EROFS_MAGIC,
  EXTENSION_OFFSET,
  extension,
  INCOMPAT,
  SLOT_OFFSET,
  SUPERBLOCK_OFFSET,
  superblock,
  TAR_BLOCK_SIZE,
} from "./superblock.ts";

export interface WriteOptions {
  /** Bytes: a power of two from 4096 to 16 MiB. */
  readonly chunkSize: number;
  /** What new blobs of this image use; readers look at each blob's own. */
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  /** What the blob table is to say about a blob; `index` is assigned here. */
  readonly blobs: ReadonlyMap<BlobRef, BlobInfo> | ((blob: BlobRef) => BlobInfo | undefined);
  /** Paths whose data is wanted first; "/" (the default) stands for everything. */
  readonly prefetch?: readonly ByteString[];
  /** Merged images carry the "has xattrs" flag whether there are any or not; others only if there are. */
  readonly hasXattr?: "always" | "found";
  /** Files lie where they are in the tars that the blobs are (tarfs): chunk addresses are tar offsets. */
  readonly tarfs?: boolean;
  /** Without it the reference shows its own owner for all files. Default true. */
  readonly explicitOwner?: boolean;
}

/** Mapped addresses start at multiples of this. */
const MAP_ALIGNMENT = 512 * 1024;

/** Byte offsets of everything, before anything is written. */
interface Frame {
  readonly prefetch: readonly number[];
  readonly prefetchOffset: number;
  /** Metadata base: what nids count from. */
  readonly base: number;
  readonly chunkTable: number;
  readonly length: number;
}

interface Device {
  readonly info: BlobInfo;
  readonly blocks: number;
  readonly mappedBlock: number;
}

const ROOT = byteStringOf("/");

export function writeBootstrap(root: Directory, options: WriteOptions): Uint8Array {
  const { chunkSize, tarfs = false } = options;
  const blockSize = blockSizeOf(options);
  const layout = planLayout(root, { chunkSize, blockSize });
  if (layout.blobs.length > MAX_BLOBS) {
    throw new NydusError(
      "unsupported",
      `Cannot write the bootstrap: it needs ${layout.blobs.length} blobs, more than ${MAX_BLOBS}`,
    );
  }
  const order = new Map(layout.blobs.map((blob, i) => [blob, i]));
  const chunks = chunkEntries(layout.files, order, { chunkSize, tarfs });
  const frame = planFrame(layout, chunks.length, options.prefetch ?? [ROOT]);
  const devices = planDevices(layout.blobs, options, frame.length);
  const image = new Uint8Array(frame.length);
  const view = viewOf(image);
  writeSuperblocks(view, layout, frame, devices, chunks.length, options);
  writeDevices(view, devices, chunkSize);
  for (const [i, nid] of frame.prefetch.entries()) view.setUint32(frame.prefetchOffset + 4 * i, nid, true);
  for (const planned of layout.nodes)
    writeInode(image, view, planned, { base: frame.base, order, chunkSize, blockSize });
  const encrypted = devices.map(({ info }) => info.cipher !== undefined);
  const known = devices.map(({ info }) => !tarfs && (info.features & BLOB_FEATURES.external) === 0);
  for (const { chunk, blob } of chunks) if (known[blob] === true) assertDigest(chunk);
  writeChunkTable(view, frame.chunkTable, chunks, encrypted);
  return image;
}

function blockSizeOf({ tarfs = false }: WriteOptions): number {
  return tarfs ? TAR_BLOCK_SIZE : BLOCK_SIZE;
}

function planFrame(layout: Layout, chunkCount: number, paths: readonly ByteString[]): Frame {
  const count = layout.blobs.length;
  const prefetch = count === 0 ? [] : paths.flatMap((path) => findNid(layout, path));
  const prefetchOffset = blobTableOffset(count) + blobEntry.size * count;
  const base = count === 0 ? 0 : alignUp(prefetchOffset + 4 * prefetch.length, BLOCK_SIZE);
  const chunkTable = alignUp(base + layout.end, BLOCK_SIZE);
  const length = alignUp(chunkTable + chunkRecord.size * chunkCount, BLOCK_SIZE);
  return { prefetch, prefetchOffset, base, chunkTable, length };
}

function blobTableOffset(count: number): number {
  return alignUp(SLOT_TABLE_OFFSET + deviceSlot.size * count, BLOCK_SIZE);
}

/** Paths that nothing has are passed over, as the reference does. */
function findNid(layout: Layout, path: ByteString): number[] {
  let here: Planned = layout.root;
  for (const name of path.split("/")) {
    if (name === "") continue;
    const found: Planned | undefined = isPlannedDirectory(here)
      ? here.entries.find(([known]) => known === name)?.[1]
      : undefined;
    if (found === undefined) return [];
    here = found;
  }
  return [nidOf(here)];
}

/** Each blob gets its stretch in one flat address space behind the bootstrap. */
function planDevices(blobs: readonly BlobRef[], options: WriteOptions, bootstrapLength: number): Device[] {
  const { blobs: infos } = options;
  const blockSize = blockSizeOf(options);
  let position = bootstrapLength;
  return blobs.map((blob, index) => {
    const info = typeof infos === "function" ? infos(blob) : infos.get(blob);
    if (info === undefined)
      throw new NydusError("internal", `Cannot write the bootstrap: nothing is known about blob ${blob.id}`);
    const blocks = info.uncompressedSize / blockSize;
    const mappedBlock = alignUp(position, MAP_ALIGNMENT) / blockSize;
    position = (mappedBlock + blocks) * blockSize;
    return { info: { ...info, index }, blocks, mappedBlock };
  });
}

function writeDevices(view: DataView, devices: readonly Device[], chunkSize: number): void {
  const table = blobTableOffset(devices.length);
  devices.forEach(({ info, blocks, mappedBlock }, i) => {
    const tag = bytesOf(byteStringOf(info.id));
    deviceSlot.write(view, SLOT_TABLE_OFFSET + i * deviceSlot.size, { tag, blocks, mappedBlock });
    writeBlobEntry(view, table + i * blobEntry.size, info, chunkSize);
  });
}

function superblockFlags(layout: Layout, devices: readonly Device[], options: WriteOptions): number {
  const hasXattr = options.hasXattr === "always" || layout.nodes.some(({ xattrs }) => xattrs.size > 0);
  const inlined = devices.every(({ info }) => (info.features & BLOB_FEATURES.inlinedDigests) !== 0);
  return (
    COMPRESSOR_FLAGS[options.compressor] |
    DIGESTER_FLAGS[options.digester] |
    (options.explicitOwner === false ? 0 : SUPERBLOCK_FLAGS.explicitOwner) |
    (hasXattr ? SUPERBLOCK_FLAGS.hasXattr : 0) |
    (inlined && options.tarfs !== true ? SUPERBLOCK_FLAGS.inlinedDigests : 0) |
    (options.tarfs === true ? SUPERBLOCK_FLAGS.tarfs : 0) |
    (devices.some(({ info }) => info.cipher !== undefined)
      ? SUPERBLOCK_FLAGS.encryptionXts
      : SUPERBLOCK_FLAGS.encryptionNone)
  );
}

function writeSuperblocks(
  view: DataView,
  layout: Layout,
  frame: Frame,
  devices: readonly Device[],
  chunkCount: number,
  options: WriteOptions,
): void {
  superblock.write(view, SUPERBLOCK_OFFSET, {
    magic: EROFS_MAGIC,
    compat: COMPAT_RAFS_V6,
    blockBits: Math.log2(blockSizeOf(options)),
    rootNid: nidOf(layout.root),
    inodes: layout.names,
    blocks: devices.reduce((sum, { blocks }) => sum + blocks, 0),
    metaBlock: frame.base / blockSizeOf(options),
    incompat: INCOMPAT,
    devices: devices.length,
    slotOffset: SLOT_OFFSET,
  });
  extension.write(view, EXTENSION_OFFSET, {
    flags: BigInt(superblockFlags(layout, devices, options) >>> 0),
    blobTableOffset: blobTableOffset(devices.length),
    blobTableSize: blobEntry.size * devices.length,
    chunkSize: options.chunkSize,
    chunkTableOffset: frame.chunkTable,
    chunkTableSize: chunkRecord.size * chunkCount,
    prefetchTableOffset: frame.prefetch.length === 0 ? 0 : frame.prefetchOffset,
    prefetchTableSize: 4 * frame.prefetch.length,
  });
}
