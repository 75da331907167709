import fc from "fast-check";
import { expect, test } from "vitest";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { NydusError } from "../base/error.ts";
import { viewOf } from "../base/struct.ts";
import { blobEntry } from "./blob-table.ts";
import { type Bootstrap, openBootstrap } from "./bootstrap.ts";
import { checkBootstrap } from "./check.ts";
import { chunkMaps } from "./chunk-maps.ts";
import { chunkRecord } from "./chunk-record.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { chunkIndex, extendedInode } from "./inode.ts";
import { chunkIndexes } from "./inode-reader.ts";
import { attributes, sampleTree } from "./sample-tree.test-support.ts";
import { EXTENSION_OFFSET, extension, SUPERBLOCK_OFFSET, superblock } from "./superblock.ts";
import { readTree } from "./tree-reader.ts";
import { writeBootstrap } from "./writer.ts";

const SAMPLE = ((): Uint8Array => {
  const { root, blobs } = sampleTree();
  return writeBootstrap(root, blobs.options);
})();

/** A copy of the sample, with handles on what a test wants to break. */
class Broken {
  readonly bytes = SAMPLE.slice();
  readonly view = viewOf(this.bytes);
  readonly image: Bootstrap = openBootstrap(this.bytes);

  nid(path: string): number {
    return path
      .split("/")
      .filter((name) => name !== "")
      .reduce(
        (nid, name) => this.image.lookup(nid, name as ByteString) ?? expect.fail(path),
        this.image.rootNid,
      );
  }

  inode(path: string): number {
    return this.image.raw(this.nid(path)).at;
  }

  /** Where the first chunk index of a file is. */
  index(path: string): number {
    return chunkIndexes(this.view, this.image.raw(this.nid(path)), 4096).offset;
  }

  get chunkTable(): number {
    return this.image.superblock.chunkTable.offset;
  }

  get blobTable(): number {
    return this.image.superblock.blobTable.offset;
  }

  /** Where the root's entry of this name is: the root is small and lies in one inline block. */
  entry(name: string): number {
    const root = this.image.raw(this.image.rootNid);
    const names = [...this.image.readdir(root.nid)].map((entry) => entry.name);
    return root.at + root.headSize + 12 * names.indexOf(name as ByteString);
  }

  /** Where the bytes of that name are. */
  name(name: string): number {
    const root = this.image.raw(this.image.rootNid);
    return root.at + root.headSize + this.view.getUint16(this.entry(name) + 8, true);
  }
}

const S = superblock.fields;
const X = extension.fields;
const I = extendedInode.fields;
const B = blobEntry.fields;
const R = chunkRecord.fields;
const C = chunkIndex.fields;
const D = deviceSlot.fields;

type Case = readonly [what: string, damage: (broken: Broken) => void, path: string, message: string];

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
    "an encrypted blob",
    ({ view, blobTable }) => B.cipher.write(view, blobTable, 1),
    "",
    "its blobs are encrypted",
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
    "its blobs hold batches of chunks",
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

const nodes: readonly Case[] = [
  [
    "a name with a slash",
    (b) => b.view.setUint8(b.name("fifo") + 2, 0x2f),
    "/fi/o",
    'its name has a "/" or a NUL',
  ],
  [
    "a name with a NUL",
    (b) => b.view.setUint8(b.name("fifo") + 2, 0),
    "/fi\0o",
    'its name has a "/" or a NUL',
  ],
  [
    "names out of order",
    (b) => b.view.setUint8(b.name("fifo"), 0x7a),
    "/hard-1",
    "it is out of order or there twice",
  ],
  [
    "a name twice",
    (b) => b.bytes.copyWithin(b.name("hard-2"), b.name("hard-1"), b.name("hard-2")),
    "/hard-1",
    "it is out of order or there twice",
  ],
  ["a name nowhere", (b) => b.view.setUint16(b.entry("fifo") + 8, 3, true), "/", "has its name nowhere"],
  [
    "no room for entries",
    (b) => b.view.setUint16(b.entry("!before-dot") + 8, 4000, true),
    "/",
    "does not start with entries",
  ],
  [
    "a nid outside",
    (b) => b.view.setUint32(b.entry("fifo"), 0x7fff_ffff, true),
    "/fifo",
    "inode 2147483647 lies outside the file",
  ],
  [
    "a nid past 2^53",
    (b) => b.view.setUint32(b.entry("fifo") + 4, 0x7fff_ffff, true),
    "/fifo",
    "value is past 2^53",
  ],
  [
    "a directory in a circle",
    (b) => b.bytes.copyWithin(b.entry("many"), b.entry("."), b.entry(".") + 8),
    "/many",
    "the directory is reached twice",
  ],
  [
    "a false dot-dot",
    (b) => b.bytes.copyWithin(b.entry(".."), b.entry("many"), b.entry("many") + 8),
    "/..",
    "it is inode",
  ],
  ["no dot", (b) => b.view.setUint8(b.name("."), 0x2d), "/", 'it has no "." and ".."'],
  [
    "another type in the entry",
    (b) => b.view.setUint8(b.entry("fifo") + 10, 1),
    "/fifo",
    "it is a fifo, its entry says type 1",
  ],
  [
    "an unknown file type",
    (b) => I.mode.write(b.view, b.inode("fifo"), 0o170644),
    "/fifo",
    "has unknown type 0170644",
  ],
  [
    "an unknown inode format",
    (b) => I.format.write(b.view, b.inode("fifo"), 0x11),
    "/fifo",
    "has unknown format 0x11",
  ],
  ["a fifo with bytes", (b) => I.size.write(b.view, b.inode("fifo"), 1), "/fifo", "a fifo has data"],
  [
    "too many nanoseconds",
    (b) => I.mtimeNs.write(b.view, b.inode("fifo"), 1e9),
    "/fifo",
    "more than a second of nanoseconds",
  ],
  ["no links", (b) => I.nlink.write(b.view, b.inode("fifo"), 0), "/fifo", "it has 0 links"],
  [
    "a missing name",
    (b) => I.nlink.write(b.view, b.inode("hard-1"), 3),
    "/hard-1",
    "it has 2 names, its inode says 3",
  ],
  [
    "a name too many",
    (b) => I.nlink.write(b.view, b.inode("hard-1"), 1),
    "/hard-2",
    "its inode has more names than the 1 it says",
  ],
  [
    "wrong links of a directory",
    (b) => I.nlink.write(b.view, b.inode("many"), 5),
    "/many",
    "it has 5 links instead of 2",
  ],
  [
    "a directory without blocks",
    (b) => I.size.write(b.view, b.inode("many"), 0),
    "/many",
    'it has no "." and ".."',
  ],
  [
    "a directory past the end",
    (b) => I.union.write(b.view, b.inode("many"), 0xffff_ffff),
    "/many",
    "has data past the end of the file",
  ],
  [
    "a directory in chunks",
    (b) => I.format.write(b.view, b.inode("many"), 9),
    "/many",
    "keeps its data in an unknown layout 4",
  ],
  [
    "a link target of no bytes",
    (b) => I.size.write(b.view, b.inode("link"), 0),
    "/link",
    "its target has 0 bytes",
  ],
  [
    "a link target of 5000 bytes",
    (b) => I.size.write(b.view, b.inode("long-link"), 5000),
    "/long-link",
    "its target has 5000 bytes",
  ],
  [
    "a NUL in a link target",
    (b) => b.view.setUint8(b.inode("link") + 64, 0),
    "/link",
    "its target has a NUL byte",
  ],
  [
    "inline data across a block",
    (b) => I.size.write(b.view, b.inode("link"), 4095),
    "/link",
    "has inline data across a block boundary",
  ],
  [
    "a lone xattr header",
    (b) => I.xattrCount.write(b.view, b.inode("capable"), 1),
    "/capable",
    "the xattr area has no entries",
  ],
  ["xattrs past the end", (b) => I.xattrCount.write(b.view, b.inode("capable"), 0xffff), "/capable", ""],
  [
    "an xattr past its area",
    (b) => b.view.setUint16(b.inode("capable") + 64 + 14, 0xffff, true),
    "/capable",
    "an xattr ends past its area",
  ],
  [
    "an unknown xattr prefix",
    (b) => b.view.setUint8(b.inode("capable") + 64 + 13, 5),
    "/capable",
    "xattr prefix 5 is not known",
  ],
  ["shared xattrs", (b) => b.view.setUint8(b.inode("capable") + 64 + 4, 1), "/capable", "xattrs are shared"],
  [
    "chunks of no blob",
    (b) => C.device.write(b.view, b.index("big"), 0),
    "/big",
    "chunk 0 is not in the chunk table",
  ],
  [
    "chunks of an unknown blob",
    (b) => C.device.write(b.view, b.index("big"), 3),
    "/big",
    "chunk 0 is not in the chunk table",
  ],
  [
    "a chunk of another ordinal",
    (b) => C.ordinalLow.write(b.view, b.index("big"), 9),
    "/big",
    "chunk 0 has another ordinal than its record",
  ],
  [
    "a chunk elsewhere",
    (b) => C.block.write(b.view, b.index("big") + 8, 77),
    "/big",
    "chunk 1 is not in the chunk table",
  ],
  [
    "a hole",
    (b) => C.block.write(b.view, b.index("big"), 0xffff_ffff),
    "/big",
    "chunk 0 is not in the chunk table",
  ],
  [
    "a size that its chunks do not have",
    (b) => I.size.write(b.view, b.inode("big"), 3 * 4096 + 2),
    "/big",
    "chunk 3 has not the size of its record",
  ],
  [
    "an absurd size",
    (b) => I.size.write(b.view, b.inode("big"), 2 ** 52),
    "/big",
    "has chunk indexes past the end of the file",
  ],
  [
    "a file that is not in chunks",
    (b) => I.format.write(b.view, b.inode("big"), 1),
    "/big",
    "is not made of chunks",
  ],
  [
    "an unknown chunk format",
    (b) => I.union.write(b.view, b.inode("big"), 0x42),
    "/big",
    "the file has unknown chunk format 0x42",
  ],
  [
    "smaller chunks in the kernel's eyes",
    (b) => I.union.write(b.view, b.inode("big"), 0x21),
    "/big",
    "the file has chunks of 8192 bytes in an image with 4096",
  ],
];

test("checkBootstrap() finds nothing wrong with what writeBootstrap() wrote", () => {
  expect(checkBootstrap(SAMPLE)).toEqual([]);
});

test.each([...superblocks, ...tables, ...nodes])("checkBootstrap() finds %s", (_, damage, path, message) => {
  const broken = new Broken();
  damage(broken);
  expect(checkBootstrap(broken.bytes)).toContainEqual({
    path,
    offset: expect.any(Number),
    message: expect.stringContaining(message),
  });
});

test("checkBootstrap() stops at a thousand violations", () => {
  const { root, blobs } = sampleTree();
  for (let i = 0; i < 1500; i++)
    root.entries.set(byteStringOf(`fifo-${i}`), { kind: "fifo", attributes: attributes() });
  const bytes = writeBootstrap(root, blobs.options);
  const image = openBootstrap(bytes);
  for (const { nid, type } of [...image.readdir(image.rootNid)])
    if (type === "fifo") I.nlink.write(image.view, image.raw(nid).at, 0);
  expect(checkBootstrap(bytes)).toHaveLength(1000);
});

test("checkBootstrap() ends soon when inodes share what only one can own", () => {
  const broken = new Broken();
  // Every file claims all that follows it as its chunk indexes.
  for (const { nid, type } of [...broken.image.readdir(broken.nid("many"))]) {
    const { at, headSize } = broken.image.raw(nid);
    const room = Math.floor((broken.bytes.length - at - headSize) / 8) - 1;
    if (type === "file") I.size.write(broken.view, at, 4096 * room);
  }
  const messages = checkBootstrap(broken.bytes).map(({ message }) => message);
  const shared = messages.filter((message) => message === "its inodes claim more bytes than the file has");
  expect(shared.length).toBeGreaterThan(390);
});

/** All that the user-space file system may ask of an image that was never checked. */
function useEverything(bytes: Uint8Array): void {
  const image = openBootstrap(bytes);
  const attempt = (work: () => unknown): void => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof NydusError)) throw error;
    }
  };
  attempt(() => chunkMaps(image));
  attempt(() => readTree(image));
  attempt(() => {
    for (const { nid, name } of image.readdir(image.rootNid)) {
      attempt(() => image.lookup(image.rootNid, name));
      attempt(() => image.inode(nid));
      attempt(() => image.xattrs(nid));
      attempt(() => image.extents(nid, 0, 2 ** 20));
      attempt(() => image.readlink(nid));
    }
  });
}

test("nothing but a NydusError comes of damaged images", { timeout: 120_000 }, () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(damage, fc.nat(), (changes, cut) => {
      const bytes = SAMPLE.slice();
      // Zeros are most of the file: aim at the bytes that say something.
      for (const [at, value] of changes) bytes[meaningful[at % meaningful.length] ?? 0] = value;
      const end = cut % 4 === 0 ? cut % bytes.length : bytes.length;
      const damaged = bytes.subarray(0, end);
      const violations = checkBootstrap(damaged);
      try {
        useEverything(damaged);
      } catch (error) {
        expect(error).toBeInstanceOf(NydusError);
        expect(violations).not.toEqual([]);
      }
    }),
    { numRuns: 600 },
  );
});

const meaningful = [...SAMPLE.keys()].filter((at) => SAMPLE[at] !== 0);
