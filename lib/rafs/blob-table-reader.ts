/**
 * Reads and checks the blob table together with the device slots, which must tell the same story.
 *
 * @module
 */
import { type ByteString, printable } from "../base/byte-string.ts";
import { NydusError } from "../base/error.ts";
import {
  type BlobInfo,
  blobEntry,
  idText,
  MAX_BLOBS,
  MAX_CHUNKS,
  MAX_COMPRESSED_SIZE,
  MAX_UNCOMPRESSED_SIZE,
  readBlobEntry,
} from "./blob-table.ts";
import { BrokenRule, type Complain, Fatal, refuse } from "./broken-rule.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { BLOB_FEATURES, REFUSED_BLOB_FEATURES } from "./flags.ts";
import type { Superblock } from "./superblock.ts";

/** A record of 40 bytes and a dictionary of at most 32 KiB. */
const MAX_UNIT_RECORD = 40 + 32 * 1024;

export interface Blobs {
  readonly blobs: readonly BlobInfo[];
  /** `mappedBlock` of each device slot. */
  readonly mappedBlocks: readonly number[];
}

/** Chunks of such blobs lie inside larger stored units, which only the compression information tells. */
export const UNIT_FEATURES: number = BLOB_FEATURES.batch | BLOB_FEATURES.zran | BLOB_FEATURES.pieces;

/** @throws corrupt, unsupported: what `complain` makes of broken rules, and when an entry cannot be read at all */
export function readBlobs(view: DataView, superblock: Superblock, complain: Complain = refuse): Blobs {
  const { blobTable, devices } = superblock;
  const count = blobTable.size / blobEntry.size;
  if (count > MAX_BLOBS)
    throw new BrokenRule(blobTable.offset, `it has ${count} blobs, more than ${MAX_BLOBS}`);
  if (count !== devices)
    complain(new BrokenRule(SLOT_TABLE_OFFSET, `it has ${count} blobs but ${devices} devices`));
  const blobs: BlobInfo[] = [];
  const mappedBlocks: number[] = [];
  const fatal = new Fatal();
  for (let i = 0; i < count; i++) {
    const at = blobTable.offset + i * blobEntry.size;
    const entry = decodeEntry(view, at, fatal);
    if (entry === undefined) continue;
    checkEntry(entry, i, superblock, at, complain);
    mappedBlocks.push(checkSlot(view, i, entry, superblock, complain));
    const { chunkSize: _, ...blob } = entry;
    blobs.push(blob);
  }
  fatal.throw(complain);
  if (new Set(blobs.map((blob) => blob.id)).size !== count)
    complain(new BrokenRule(blobTable.offset, "two blobs have the same id"));
  return { blobs, mappedBlocks };
}

type Entry = BlobInfo & { readonly chunkSize: number };

function decodeEntry(view: DataView, at: number, fatal: Fatal): Entry | undefined {
  try {
    return readBlobEntry(view, at);
  } catch (error) {
    if (!(error instanceof NydusError)) throw error;
    fatal.add(new BrokenRule(at, error.message.replace(/^Cannot read the blob table: /, "")));
    return undefined;
  }
}

/** @returns where the device is mapped, in blocks */
function checkSlot(
  view: DataView,
  index: number,
  blob: BlobInfo,
  { blockSize }: Superblock,
  complain: Complain,
): number {
  const { id } = blob;
  const at = SLOT_TABLE_OFFSET + index * deviceSlot.size;
  const { tag, blocks, mappedBlock } = deviceSlot.read(view, at);
  const slot = `device slot ${index}`;
  if (idText(tag) !== id)
    complain(new BrokenRule(at, `${slot} does not name blob ${printable(id as ByteString)}`));
  if (blocks !== deviceBlocks(blob, blockSize)) {
    const state = `${slot} has ${blocks} blocks, not the size of blob ${printable(id as ByteString)}`;
    complain(new BrokenRule(at + deviceSlot.fields.blocks.offset, state));
  }
  return mappedBlock;
}

/** External files have any size, and a device only whole blocks. */
export function deviceBlocks({ uncompressedSize }: BlobInfo, blockSize: number): number {
  return Math.floor(uncompressedSize / blockSize);
}

/** Ids name files in the cache and the registry, so nothing but hex (or the placeholder) gets through. */
const BLOB_ID = /^(?:[0-9a-f]{64}|x{64})$/;

/** What is wrong with a field of an entry. */
type Bad = (field: keyof typeof blobEntry.fields, state: string) => void;

function checkEntry(
  blob: Entry,
  index: number,
  superblock: Superblock,
  at: number,
  complain: Complain,
): void {
  const bad: Bad = (field, state) =>
    complain(new BrokenRule(at + blobEntry.fields[field].offset, `blob ${index} ${state}`));
  const { features } = blob;
  if ((features & REFUSED_BLOB_FEATURES) !== 0)
    bad("features", `has unknown features 0x${features.toString(16)}`);
  if (superblock.tarfs !== ((features & BLOB_FEATURES.tarfs) !== 0))
    bad("features", "is a plain tar, or the image is one of plain tars, but not both");
  const external = (features & BLOB_FEATURES.external) !== 0;
  if (!external && superblock.tarfs === ((features & BLOB_FEATURES.aligned) !== 0))
    bad(
      "features",
      superblock.tarfs ? "aligns chunks that lie in a tar" : "does not align its chunks to 4096",
    );
  if (!BLOB_ID.test(blob.id)) bad("id", "is not named by 64 hex digits");
  if (blob.index !== index) bad("index", `says that it is blob ${blob.index}`);
  if (blob.chunkSize !== superblock.chunkSize)
    bad("chunkSize", `has chunk size ${blob.chunkSize} instead of ${superblock.chunkSize}`);
  if (blob.chunkCount === 0 || blob.chunkCount > MAX_CHUNKS)
    bad("chunkCount", `has ${blob.chunkCount} chunks`);
  if ((blob.cipher !== undefined) !== ((features & BLOB_FEATURES.encrypted) !== 0))
    bad("cipher", "has a cipher, or says that it is encrypted, but not both");
  checkSizes(blob, superblock.blockSize, bad);
  if (external) checkExternal(blob, bad);
  else if (superblock.tarfs) checkTar(blob, bad);
  else checkChunkInfo(blob, bad);
}

function checkSizes(blob: BlobInfo, blockSize: number, bad: Bad): void {
  if (blob.compressedSize > MAX_COMPRESSED_SIZE)
    bad("compressedSize", `has ${blob.compressedSize} compressed bytes`);
  const { uncompressedSize, features } = blob;
  const anySize = (features & (BLOB_FEATURES.external | BLOB_FEATURES.aligned)) === BLOB_FEATURES.external;
  if (
    uncompressedSize === 0 ||
    uncompressedSize > MAX_UNCOMPRESSED_SIZE ||
    (!anySize && uncompressedSize % blockSize !== 0)
  )
    bad("uncompressedSize", `has ${uncompressedSize} uncompressed bytes`);
  if (blob.ciOffset + blob.ciCompressedSize > MAX_COMPRESSED_SIZE)
    bad("ciOffset", "has compression information nowhere");
  if (dataSize(blob) < 0) bad("compressedSize", "has no room for its chunks");
}

/** What else the reference writes about such a blob is left over from others and means nothing. */
function checkTar(blob: BlobInfo, bad: Bad): void {
  if (blob.compressor !== "none" || blob.cipher !== undefined)
    bad("compressor", "is a plain tar that is compressed or encrypted");
  if (blob.compressedSize !== blob.uncompressedSize)
    bad("compressedSize", `is a plain tar of ${blob.compressedSize} bytes, or of ${blob.uncompressedSize}`);
  if ((blob.features & (UNIT_FEATURES | BLOB_FEATURES.separate)) !== 0)
    bad("features", "is a plain tar with compression information");
}

/** It has no compression information: nothing in it is compressed, and the chunk table tells where chunks are. */
function checkExternal(blob: BlobInfo, bad: Bad): void {
  if (blob.compressor !== "none" || blob.cipher !== undefined)
    bad("compressor", "is an external file that is compressed or encrypted");
  const others = UNIT_FEATURES | BLOB_FEATURES.separate | BLOB_FEATURES.tarfs;
  if ((blob.features & others) !== 0) bad("features", "is an external file, and of another kind too");
}

function checkChunkInfo(blob: BlobInfo, bad: Bad): void {
  const { features, chunkCount, ciUncompressedSize: size } = blob;
  const version2 = (features & BLOB_FEATURES.ciVersion2) !== 0;
  const more = (features & (UNIT_FEATURES | BLOB_FEATURES.encrypted)) !== 0;
  if (more && !version2)
    bad("features", "has units or is encrypted, but its compression information is of version 1");
  const kind = features & UNIT_FEATURES;
  if ((kind & (kind - 1)) !== 0) bad("features", "has stored units of several kinds at once");
  const entries = (version2 ? 24 : 16) * chunkCount;
  const open = (features & BLOB_FEATURES.generatedDictionary) !== 0;
  if (!open && (more ? size < entries : size !== entries))
    bad("ciUncompressedSize", `has ${size} bytes of compression information for ${chunkCount} chunks`);
  // It is held in memory: entries, and for each chunk at most a unit with its dictionary.
  else if (size > entries + chunkCount * MAX_UNIT_RECORD && !open)
    bad("ciUncompressedSize", `has ${size} bytes of compression information`);
  if (blob.ciCompressedSize > size) bad("ciCompressedSize", "has compression information that grew");
}

/** Bytes of the stored blob that hold chunks: compressed offsets end at or before it. */
export function dataSize(blob: BlobInfo): number {
  if ((blob.features & (BLOB_FEATURES.tarfs | BLOB_FEATURES.external)) !== 0) return blob.compressedSize;
  if ((blob.features & BLOB_FEATURES.separate) !== 0) return blob.compressedSize;
  if ((blob.features & BLOB_FEATURES.capTarToc) === 0) return blob.compressedSize;
  const header = (blob.features & BLOB_FEATURES.tarHeaders) !== 0 ? 512 : 0;
  return blob.ciOffset - header;
}
