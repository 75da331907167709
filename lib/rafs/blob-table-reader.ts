/**
 * Reads and checks the blob table together with the device slots, which must tell the same story.
 *
 * @module
 */
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
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { BLOB_FEATURES, REFUSED_BLOB_FEATURES } from "./flags.ts";
import type { Superblock } from "./superblock.ts";
import { unreadable, unsupported } from "./superblock-reader.ts";

/** A record of 40 bytes and a dictionary of at most 32 KiB. */
const MAX_UNIT_RECORD = 40 + 32 * 1024;

export interface Blobs {
  readonly blobs: readonly BlobInfo[];
  /** `mappedBlock` of each device slot. */
  readonly mappedBlocks: readonly number[];
}

/** Features we do not serve; each has its sentence. */
const UNSUPPORTED: readonly (readonly [bit: number, sentence: string])[] = [
  [BLOB_FEATURES.external, "its blobs are external files"],
];

/** Chunks of such blobs lie inside larger stored units, which only the compression information tells. */
export const UNIT_FEATURES: number = BLOB_FEATURES.batch | BLOB_FEATURES.zran | BLOB_FEATURES.pieces;

/** @throws corrupt, unsupported */
export function readBlobs(view: DataView, superblock: Superblock): Blobs {
  const { blobTable, devices } = superblock;
  const count = blobTable.size / blobEntry.size;
  if (count !== devices) throw unreadable(`it has ${count} blobs but ${devices} devices`);
  if (count > MAX_BLOBS) throw unreadable(`it has ${count} blobs, more than ${MAX_BLOBS}`);
  const blobs: BlobInfo[] = [];
  const mappedBlocks: number[] = [];
  for (let i = 0; i < count; i++) {
    const entry = readBlobEntry(view, blobTable.offset + i * blobEntry.size);
    const slot = deviceSlot.read(view, SLOT_TABLE_OFFSET + i * deviceSlot.size);
    checkEntry(entry, i, superblock);
    if (idText(slot.tag) !== entry.id) throw unreadable(`device slot ${i} does not name blob ${entry.id}`);
    if (slot.blocks !== entry.uncompressedSize / superblock.blockSize)
      throw unreadable(`device slot ${i} has ${slot.blocks} blocks, not the size of blob ${entry.id}`);
    const { chunkSize: _, ...blob } = entry;
    blobs.push(blob);
    mappedBlocks.push(slot.mappedBlock);
  }
  if (new Set(blobs.map((blob) => blob.id)).size !== count) throw unreadable("two blobs have the same id");
  return { blobs, mappedBlocks };
}

/** Ids name files in the cache and the registry, so nothing but hex (or the placeholder) gets through. */
const BLOB_ID = /^(?:[0-9a-f]{64}|x{64})$/;

function checkEntry(blob: BlobInfo & { chunkSize: number }, index: number, superblock: Superblock): void {
  const bad = (state: string): never => {
    throw unreadable(`blob ${index} ${state}`);
  };
  for (const [bit, sentence] of UNSUPPORTED) if ((blob.features & bit) !== 0) throw unsupported(sentence);
  if ((blob.features & REFUSED_BLOB_FEATURES) !== 0)
    bad(`has unknown features 0x${blob.features.toString(16)}`);
  if (superblock.tarfs !== ((blob.features & BLOB_FEATURES.tarfs) !== 0))
    bad("is a plain tar, or the image is one of plain tars, but not both");
  if (superblock.tarfs === ((blob.features & BLOB_FEATURES.aligned) !== 0))
    bad(superblock.tarfs ? "aligns chunks that lie in a tar" : "does not align its chunks to 4096");
  if (!BLOB_ID.test(blob.id)) bad("is not named by 64 hex digits");
  if (blob.index !== index) bad(`says that it is blob ${blob.index}`);
  if (blob.chunkSize !== superblock.chunkSize)
    bad(`has chunk size ${blob.chunkSize} instead of ${superblock.chunkSize}`);
  if (blob.chunkCount === 0 || blob.chunkCount > MAX_CHUNKS) bad(`has ${blob.chunkCount} chunks`);
  if ((blob.cipher !== undefined) !== ((blob.features & BLOB_FEATURES.encrypted) !== 0))
    bad("has a cipher, or says that it is encrypted, but not both");
  checkSizes(blob, superblock.blockSize, bad);
  if (superblock.tarfs) checkTar(blob, bad);
  else checkChunkInfo(blob, bad);
}

function checkSizes(blob: BlobInfo, blockSize: number, bad: (state: string) => never): void {
  if (blob.compressedSize > MAX_COMPRESSED_SIZE) bad(`has ${blob.compressedSize} compressed bytes`);
  const { uncompressedSize } = blob;
  if (
    uncompressedSize === 0 ||
    uncompressedSize > MAX_UNCOMPRESSED_SIZE ||
    uncompressedSize % blockSize !== 0
  ) {
    bad(`has ${uncompressedSize} uncompressed bytes`);
  }
  if (blob.ciOffset + blob.ciCompressedSize > MAX_COMPRESSED_SIZE) bad("has compression information nowhere");
  if (dataSize(blob) < 0) bad("has no room for its chunks");
}

/** What else the reference writes about such a blob is left over from others and means nothing. */
function checkTar(blob: BlobInfo, bad: (state: string) => never): void {
  if (blob.compressor !== "none" || blob.cipher !== undefined)
    bad("is a plain tar that is compressed or encrypted");
  if (blob.compressedSize !== blob.uncompressedSize)
    bad(`is a plain tar of ${blob.compressedSize} bytes, or of ${blob.uncompressedSize}`);
  if ((blob.features & (UNIT_FEATURES | BLOB_FEATURES.separate)) !== 0)
    bad("is a plain tar with compression information");
}

function checkChunkInfo(blob: BlobInfo, bad: (state: string) => never): void {
  const { features, chunkCount, ciUncompressedSize: size } = blob;
  const version2 = (features & BLOB_FEATURES.ciVersion2) !== 0;
  const more = (features & (UNIT_FEATURES | BLOB_FEATURES.encrypted)) !== 0;
  if (more && !version2) bad("has units or is encrypted, but its compression information is of version 1");
  const kind = features & UNIT_FEATURES;
  if ((kind & (kind - 1)) !== 0) bad("has stored units of several kinds at once");
  const entries = (version2 ? 24 : 16) * chunkCount;
  const open = (features & BLOB_FEATURES.generatedDictionary) !== 0;
  if (!open && (more ? size < entries : size !== entries))
    bad(`has ${size} bytes of compression information for ${chunkCount} chunks`);
  // It is held in memory: entries, and for each chunk at most a unit with its dictionary.
  if (size > entries + chunkCount * MAX_UNIT_RECORD && !open)
    bad(`has ${size} bytes of compression information`);
  if (blob.ciCompressedSize > size) bad("has compression information that grew");
}

/** Bytes of the stored blob that hold chunks: compressed offsets end at or before it. */
export function dataSize(blob: BlobInfo): number {
  if ((blob.features & BLOB_FEATURES.tarfs) !== 0) return blob.compressedSize;
  if ((blob.features & BLOB_FEATURES.separate) !== 0) return blob.compressedSize;
  if ((blob.features & BLOB_FEATURES.capTarToc) === 0) return blob.compressedSize;
  const header = (blob.features & BLOB_FEATURES.tarHeaders) !== 0 ? 512 : 0;
  return blob.ciOffset - header;
}
