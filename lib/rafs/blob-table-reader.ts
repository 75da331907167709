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
import { BLOCK_SIZE, type Superblock } from "./superblock.ts";
import { unreadable, unsupported } from "./superblock-reader.ts";

export interface Blobs {
  readonly blobs: readonly BlobInfo[];
  /** `mappedBlock` of each device slot. */
  readonly mappedBlocks: readonly number[];
}

/** Features we do not serve; each has its sentence. */
const UNSUPPORTED: readonly (readonly [bit: number, sentence: string])[] = [
  [BLOB_FEATURES.zran, "its blobs are original gzip layers (OCI-ref, zran)"],
  [BLOB_FEATURES.separate, "its blobs keep data and metadata apart (OCI-ref)"],
  [BLOB_FEATURES.batch, "its blobs hold batches of chunks"],
  [BLOB_FEATURES.encrypted, "its blobs are encrypted"],
  [BLOB_FEATURES.tarfs, "its blobs are plain tars (tarfs)"],
  [BLOB_FEATURES.external, "its blobs are external files"],
  [BLOB_FEATURES.generatedDictionary, "it is a generated chunk dictionary, not an image"],
];

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
    if (slot.blocks !== entry.uncompressedSize / BLOCK_SIZE)
      throw unreadable(`device slot ${i} has ${slot.blocks} blocks, not the size of blob ${entry.id}`);
    const { chunkSize: _, cipher: __, ...blob } = entry;
    blobs.push(blob);
    mappedBlocks.push(slot.mappedBlock);
  }
  if (new Set(blobs.map((blob) => blob.id)).size !== count) throw unreadable("two blobs have the same id");
  return { blobs, mappedBlocks };
}

/** Ids name files in the cache and the registry, so nothing but hex (or the placeholder) gets through. */
const BLOB_ID = /^(?:[0-9a-f]{64}|x{64})$/;

function checkEntry(
  blob: BlobInfo & { chunkSize: number; cipher: number },
  index: number,
  superblock: Superblock,
): void {
  const bad = (state: string): never => {
    throw unreadable(`blob ${index} ${state}`);
  };
  if (blob.cipher !== 0) throw unsupported("its blobs are encrypted");
  for (const [bit, sentence] of UNSUPPORTED) if ((blob.features & bit) !== 0) throw unsupported(sentence);
  if ((blob.features & REFUSED_BLOB_FEATURES) !== 0)
    bad(`has unknown features 0x${blob.features.toString(16)}`);
  if ((blob.features & BLOB_FEATURES.aligned) === 0) bad("does not align its chunks to 4096");
  if (!BLOB_ID.test(blob.id)) bad("is not named by 64 hex digits");
  if (blob.index !== index) bad(`says that it is blob ${blob.index}`);
  if (blob.chunkSize !== superblock.chunkSize)
    bad(`has chunk size ${blob.chunkSize} instead of ${superblock.chunkSize}`);
  if (blob.chunkCount === 0 || blob.chunkCount > MAX_CHUNKS) bad(`has ${blob.chunkCount} chunks`);
  checkSizes(blob, bad);
}

function checkSizes(blob: BlobInfo, bad: (state: string) => never): void {
  if (blob.compressedSize > MAX_COMPRESSED_SIZE) bad(`has ${blob.compressedSize} compressed bytes`);
  const { uncompressedSize } = blob;
  if (
    uncompressedSize === 0 ||
    uncompressedSize > MAX_UNCOMPRESSED_SIZE ||
    uncompressedSize % BLOCK_SIZE !== 0
  ) {
    bad(`has ${uncompressedSize} uncompressed bytes`);
  }
  const entrySize = (blob.features & BLOB_FEATURES.ciVersion2) !== 0 ? 24 : 16;
  if (blob.ciUncompressedSize !== entrySize * blob.chunkCount)
    bad(`has ${blob.ciUncompressedSize} bytes of compression information for ${blob.chunkCount} chunks`);
  if (blob.ciCompressedSize > blob.ciUncompressedSize) bad("has compression information that grew");
  if (blob.ciOffset + blob.ciCompressedSize > MAX_COMPRESSED_SIZE) bad("has compression information nowhere");
  if (dataSize(blob) < 0) bad("has no room for its chunks");
}

/** Bytes of the stored blob that hold chunks: compressed offsets end at or before it. */
export function dataSize(blob: BlobInfo): number {
  if ((blob.features & BLOB_FEATURES.capTarToc) === 0) return blob.compressedSize;
  const header = (blob.features & BLOB_FEATURES.tarHeaders) !== 0 ? 512 : 0;
  return blob.ciOffset - header;
}
