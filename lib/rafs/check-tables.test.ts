import { test } from "vitest";
import { blobEntry } from "./blob-table.ts";
import { type Case, expectViolation } from "./broken-bootstrap.test-support.ts";
import { chunkRecord } from "./chunk-record.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { EXTENSION_OFFSET, extension, SUPERBLOCK_OFFSET, superblock } from "./superblock.ts";

const S = superblock.fields;
const X = extension.fields;
const B = blobEntry.fields;
const R = chunkRecord.fields;
const D = deviceSlot.fields;

const superblocks: readonly Case[] = [
  [
    "no magic",
    ({ view }) => S.magic.write(view, SUPERBLOCK_OFFSET, 1),
    "",
    "there is no EROFS superblock at 1024",
  ],
  [
    "a checksum",
    ({ view }) => S.checksum.write(view, SUPERBLOCK_OFFSET, 1),
    "",
    "it has a superblock checksum",
  ],
  [
    "an unknown compatible feature",
    ({ view }) => S.compat.write(view, SUPERBLOCK_OFFSET, 0x4000_0001),
    "",
    "compatible features 0x40000001 are not known",
  ],
  [
    "an unknown incompatible feature",
    ({ view }) => S.incompat.write(view, SUPERBLOCK_OFFSET, 0x1c),
    "",
    "incompatible features are 0x1c instead of 0xc",
  ],
  [
    "other blocks",
    ({ view }) => S.blockBits.write(view, SUPERBLOCK_OFFSET, 13),
    "",
    "block size 2^13 is not 4096",
  ],
  [
    "larger directory blocks",
    ({ view }) => S.directoryBits.write(view, SUPERBLOCK_OFFSET, 1),
    "",
    "directory blocks are not as large as blocks",
  ],
  [
    "extra slots",
    ({ view }) => S.extraSlots.write(view, SUPERBLOCK_OFFSET, 1),
    "",
    "the superblock has extensions",
  ],
  [
    "a shared xattr area",
    ({ view }) => S.xattrBlock.write(view, SUPERBLOCK_OFFSET, 1),
    "",
    "it has a shared xattr area",
  ],
  [
    "metadata past the end",
    ({ view }) => S.metaBlock.write(view, SUPERBLOCK_OFFSET, 0xffff_ffff),
    "",
    "the metadata base lies past the end",
  ],
  [
    "too few devices",
    ({ view }) => S.devices.write(view, SUPERBLOCK_OFFSET, 1),
    "",
    "it has 2 blobs but 1 devices",
  ],
  [
    "too many devices",
    ({ view }) => S.devices.write(view, SUPERBLOCK_OFFSET, 0xffff),
    "",
    "the blob table cannot start at 4096",
  ],
  [
    "a wrong count of blocks",
    ({ view }) => S.blocks.write(view, SUPERBLOCK_OFFSET, 1),
    "",
    "the superblock counts 1 blocks",
  ],
  [
    "a root that is no inode",
    ({ view }) => S.rootNid.write(view, SUPERBLOCK_OFFSET, 0xffff),
    "",
    "lies outside the file",
  ],
  [
    "two compressors",
    ({ view }) => X.flags.write(view, EXTENSION_OFFSET, 0x0100_009an),
    "",
    "its flags do not name exactly one compressor",
  ],
  [
    "unknown flags",
    ({ view }) => X.flags.write(view, EXTENSION_OFFSET, 1n << 40n),
    "",
    "superblock flags 0x10000000000 are not known",
  ],
  [
    "an odd chunk size",
    ({ view }) => X.chunkSize.write(view, EXTENSION_OFFSET, 5000),
    "",
    "chunk size 5000 is not a power of two",
  ],
  [
    "a blob table past the end",
    ({ view, bytes }) => X.blobTableOffset.write(view, EXTENSION_OFFSET, bytes.length),
    "",
    "the blob table ends past the end of the file",
  ],
  [
    "a chunk table over the blob table",
    ({ view }) => X.chunkTableOffset.write(view, EXTENSION_OFFSET, 4096),
    "",
    "its tables overlap",
  ],
  [
    "a chunk table of half a record",
    ({ view }) => X.chunkTableSize.write(view, EXTENSION_OFFSET, 120),
    "",
    "the chunk table's size 120 is not a multiple of 80",
  ],
  [
    "a chunk table past 2^53",
    ({ view }) => view.setUint32(EXTENSION_OFFSET + 28, 0xffff_ffff, true),
    "",
    "value is past 2^53",
  ],
  [
    "a prefetch table past the end",
    ({ view }) => X.prefetchTableSize.write(view, EXTENSION_OFFSET, 0xffff_fffc),
    "",
    "the prefetch table ends past the end of the file",
  ],
];

const tables: readonly Case[] = [
  [
    "a blob id with a slash",
    ({ view, blobTable }) => view.setUint8(blobTable, 0x2f),
    "",
    "is not named by 64 hex digits",
  ],
  [
    "another slot than blob",
    ({ view }) => view.setUint8(SLOT_TABLE_OFFSET, 0x61),
    "",
    "device slot 0 does not name blob",
  ],
  [
    "a slot of another size",
    ({ view }) => D.blocks.write(view, SLOT_TABLE_OFFSET, 1),
    "",
    "device slot 0 has 1 blocks",
  ],
  [
    "a device over the bootstrap",
    ({ view }) => D.mappedBlock.write(view, SLOT_TABLE_OFFSET, 2),
    "",
    "device 0 is mapped over the bootstrap",
  ],
  [
    "a blob at another index",
    ({ view, blobTable }) => B.index.write(view, blobTable, 1),
    "",
    "blob 0 says that it is blob 1",
  ],
  [
    "another chunk size",
    ({ view, blobTable }) => B.chunkSize.write(view, blobTable, 8192),
    "",
    "blob 0 has chunk size 8192 instead of 4096",
  ],
  [
    "a blob without chunks",
    ({ view, blobTable }) => B.chunkCount.write(view, blobTable, 0),
    "",
    "blob 0 has 0 chunks",
  ],
  [
    "an unknown compressor",
    ({ view, blobTable }) => B.compressor.write(view, blobTable, 9),
    "",
    "compressor 9 is not known",
  ],
  [
    "a cipher on a plain blob",
    ({ view, blobTable }) => B.cipher.write(view, blobTable, 1),
    "",
    "blob 0 has a cipher, or says that it is encrypted, but not both",
  ],
  [
    "an unknown cipher",
    ({ view, blobTable }) => B.cipher.write(view, blobTable, 2),
    "",
    "cipher 2 is not known",
  ],
  [
    "batches without room for them",
    ({ view, blobTable }) => B.features.write(view, blobTable, 0x4000_0081),
    "",
    "its compression information is of version 1",
  ],
  [
    "batches in a gzip layer",
    ({ view, blobTable }) => B.features.write(view, blobTable, 0x4000_008d),
    "",
    "has stored units of several kinds at once",
  ],
  [
    "an unaligned blob",
    ({ view, blobTable }) => B.features.write(view, blobTable, 0x4000_0000),
    "",
    "blob 0 does not align its chunks",
  ],
  [
    "an unknown feature",
    ({ view, blobTable }) => B.features.write(view, blobTable, 0x8000_0001),
    "",
    "blob 0 has unknown features 0x80000001",
  ],
  [
    "compression information of another size",
    ({ view, blobTable }) => B.ciUncompressedSize.write(view, blobTable, 1),
    "",
    "blob 0 has 1 bytes of compression information",
  ],
  ["a record of no blob", ({ view, chunkTable }) => R.blob.write(view, chunkTable, 2), "", "names no blob"],
  [
    "a chunk without bytes",
    ({ view, chunkTable }) => R.uncompressedSize.write(view, chunkTable, 0),
    "",
    "has 0 bytes",
  ],
  [
    "a chunk larger than chunks are",
    ({ view, chunkTable }) => R.uncompressedSize.write(view, chunkTable, 4097),
    "",
    "has 4097 bytes",
  ],
  [
    "a chunk past its blob",
    ({ view, chunkTable }) => R.uncompressedOffset.write(view, chunkTable, 2 ** 43),
    "",
    "lies past the end of blob",
  ],
  [
    "an unaligned chunk",
    ({ view, chunkTable }) => R.uncompressedOffset.write(view, chunkTable, 1),
    "",
    "is not aligned to 4096",
  ],
  [
    "a chunk stored past its blob",
    ({ view, chunkTable }) => R.compressedOffset.write(view, chunkTable, 2 ** 39),
    "",
    "is stored past the end of blob",
  ],
  [
    "a chunk that grew",
    ({ view, chunkTable }) =>
      R.compressedSize.write(view, chunkTable, R.uncompressedSize.read(view, chunkTable) + 1),
    "",
    "stored bytes for",
  ],
  [
    "a batched chunk",
    ({ view, chunkTable }) => R.flags.write(view, chunkTable, 8),
    "",
    "has flags 0x8, unlike its blob",
  ],
  [
    "an ordinal past the blob",
    ({ view, chunkTable }) => R.index.write(view, chunkTable, 0xff_ffff),
    "",
    "has ordinal 16777215 of",
  ],
  [
    "two chunks at one place",
    ({ bytes, chunkTable }) => bytes.copyWithin(chunkTable, chunkTable + 80, chunkTable + 160),
    "",
    "lie at one place",
  ],
];

test.each([...superblocks, ...tables])("checkBootstrap() finds %s", (...row) => expectViolation(row));
