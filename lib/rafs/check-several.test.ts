/**
 * Several rules broken at once: the check names each, with the path it concerns and the byte where it is broken.
 */
import { expect, test } from "vitest";
import { blobEntry } from "./blob-table.ts";
import { Broken } from "./broken-bootstrap.test-support.ts";
import { checkBootstrap } from "./check.ts";
import { chunkRecord } from "./chunk-record.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { dirent } from "./dirent.ts";
import { chunkIndex, extendedInode } from "./inode.ts";
import { EXTENSION_OFFSET, extension, SUPERBLOCK_OFFSET, superblock } from "./superblock.ts";

const S = superblock.fields;
const X = extension.fields;
const B = blobEntry.fields;
const R = chunkRecord.fields;
const D = deviceSlot.fields;
const I = extendedInode.fields;
const C = chunkIndex.fields;
const E = dirent.fields;

/** Path and offset of each violation, and how its message goes. */
function found({ bytes }: Broken): string[] {
  return checkBootstrap(bytes).map(
    ({ path, offset, message }) => `${path || "tables"} ${offset}: ${message}`,
  );
}

/** Something wrong far away from tables: whoever stops early does not see it. */
function breakFifo({ view, inode }: { view: DataView; inode: (path: string) => number }): string {
  I.nlink.write(view, inode("fifo"), 0);
  return `/fifo ${inode("fifo")}: it has 0 links`;
}

function broken(): Broken & { readonly fifo: string } {
  const made = new Broken();
  const fifo = breakFifo({ view: made.view, inode: (path) => made.inode(path) });
  return Object.assign(made, { fifo });
}

test("checkBootstrap() names all broken fields of the superblocks, and goes on", () => {
  const made = broken();
  const { view } = made;
  S.checksum.write(view, SUPERBLOCK_OFFSET, 1);
  S.directoryBits.write(view, SUPERBLOCK_OFFSET, 1);
  S.xattrBlock.write(view, SUPERBLOCK_OFFSET, 1);
  S.blocks.write(view, SUPERBLOCK_OFFSET, 1);
  X.flags.write(view, EXTENSION_OFFSET, 0x0101_009an);
  const erofs = (field: keyof typeof S): number => SUPERBLOCK_OFFSET + S[field].offset;
  expect(found(made)).toEqual([
    expect.stringMatching(`^tables ${EXTENSION_OFFSET}: superblock flags 0x10000 are not known`),
    `tables ${EXTENSION_OFFSET}: its flags do not name exactly one compressor`,
    `tables ${erofs("checksum")}: it has a superblock checksum`,
    `tables ${erofs("directoryBits")}: directory blocks are not as large as blocks`,
    `tables ${erofs("xattrBlock")}: it has a shared xattr area`,
    expect.stringMatching(`^tables ${erofs("blocks")}: the superblock counts 1 blocks`),
    made.fifo,
  ]);
});

test("checkBootstrap() names all tables that lie wrong before it gives up", () => {
  const made = broken();
  const { view, bytes } = made;
  X.chunkTableOffset.write(view, EXTENSION_OFFSET, made.chunkTable + 8);
  X.prefetchTableOffset.write(view, EXTENSION_OFFSET, bytes.length);
  X.blobTableSize.write(view, EXTENSION_OFFSET, 300);
  const at = (field: keyof typeof X): number => EXTENSION_OFFSET + X[field].offset;
  expect(found(made)).toEqual([
    `tables ${at("blobTableOffset")}: the blob table's size 300 is not a multiple of 256`,
    `tables ${at("chunkTableOffset")}: the chunk table cannot start at ${made.chunkTable + 8}`,
    `tables ${at("prefetchTableOffset")}: the prefetch table ends past the end of the file`,
  ]);
});

test("checkBootstrap() names all that is wrong with blobs and device slots, and goes on", () => {
  const made = broken();
  const { view, blobTable: first } = made;
  const second = first + blobEntry.size;
  B.index.write(view, first, 7);
  B.chunkCount.write(view, first, 0);
  view.setUint8(second, 0x2f);
  B.compressedSize.write(view, second, 2 ** 41);
  D.blocks.write(view, SLOT_TABLE_OFFSET, 1);
  expect(found(made)).toEqual([
    `tables ${first + B.index.offset}: blob 0 says that it is blob 7`,
    `tables ${first + B.chunkCount.offset}: blob 0 has 0 chunks`,
    expect.stringMatching(`^tables ${first + B.ciUncompressedSize.offset}: blob 0 has .* for 0 chunks`),
    expect.stringMatching(`^tables ${SLOT_TABLE_OFFSET + D.blocks.offset}: device slot 0 has 1 blocks`),
    `tables ${second}: blob 1 is not named by 64 hex digits`,
    `tables ${second + B.compressedSize.offset}: blob 1 has ${2 ** 41} compressed bytes`,
    expect.stringMatching(`^tables ${SLOT_TABLE_OFFSET + deviceSlot.size}: device slot 1 does not name blob`),
    made.fifo,
  ]);
});

test("checkBootstrap() names all blobs that cannot be read", () => {
  const made = new Broken();
  const { view, blobTable: first } = made;
  B.compressor.write(view, first, 9);
  B.cipher.write(view, first + blobEntry.size, 5);
  expect(found(made)).toEqual([
    `tables ${first}: compressor 9 is not known`,
    `tables ${first + blobEntry.size}: cipher 5 is not known`,
  ]);
});

test("checkBootstrap() names every broken chunk record, and the files that need it", () => {
  const made = broken();
  const { view, chunkTable } = made;
  const record = (r: number): number => chunkTable + r * chunkRecord.size;
  R.blob.write(view, record(0), 9);
  R.uncompressedSize.write(view, record(1), 0);
  R.compressedOffset.write(view, record(2), 2 ** 39);
  R.uncompressedOffset.write(view, record(3), 1);
  const violations = found(made);
  expect(violations.slice(0, 4)).toEqual([
    `tables ${record(0)}: the chunk record at ${record(0)} names no blob`,
    `tables ${record(3)}: the chunk record at ${record(3)} is not aligned to 4096`,
    `tables ${record(1)}: the chunk record at ${record(1)} has 0 bytes`,
    expect.stringMatching(`^tables ${record(2)}: .* is stored past the end of blob`),
  ]);
  expect(violations).toContain(made.fifo);
  expect(violations.filter((line) => line.includes("is not in the chunk table"))).not.toEqual([]);
});

test("checkBootstrap() names all that is wrong with one inode", () => {
  const made = new Broken();
  const at = made.inode("fifo");
  I.nlink.write(made.view, at, 0);
  I.mtimeNs.write(made.view, at, 1e9);
  I.size.write(made.view, at, 1);
  expect(found(made)).toEqual([
    `/fifo ${at}: it has 0 links`,
    `/fifo ${at}: its time has more than a second of nanoseconds`,
    `/fifo ${at}: a fifo has data`,
  ]);
});

test("checkBootstrap() names every wrong chunk of a file, and its format", () => {
  const made = new Broken();
  const index = made.index("big");
  C.block.write(made.view, index, 0x1234);
  C.device.write(made.view, index + 2 * chunkIndex.size, 0);
  I.union.write(made.view, made.inode("big"), 0x41);
  expect(found(made)).toEqual([
    `/big ${index}: chunk 0 lies past the end of its blob`,
    `/big ${index + 2 * chunkIndex.size}: chunk 2 is in no blob`,
    `/big ${made.inode("big")}: the file has unknown chunk format 0x41`,
  ]);
});

test("checkBootstrap() reads the other blocks of a directory when one makes no sense", () => {
  const made = new Broken();
  const many = made.image.raw(made.nid("many"));
  const block = (k: number): number => many.union * 4096 + k * 4096;
  const names = [...made.image.readdir(many.nid)].map(({ name }) => name);
  const [first, second] = [0, 1].map((k) => E.nameOffset.read(made.view, block(k)) / dirent.size) as [
    number,
    number,
  ];
  const victim = names[first + second - 1] ?? "";
  const at = made.inode(`many/${victim}`);
  I.mtimeNs.write(made.view, at, 1e9);
  // The first block has nothing to start with; a name of the third lies nowhere.
  E.nameOffset.write(made.view, block(0), 4095);
  E.nameOffset.write(made.view, block(2) + dirent.size, 1);
  const violations = found(made);
  expect(violations.slice(0, 3)).toEqual([
    expect.stringMatching(/^\/many \d+: .*does not start with entries/),
    `/many/${victim} ${at}: its time has more than a second of nanoseconds`,
    expect.stringMatching(`^/many ${block(2)}: directory entry at ${block(2)} has its name nowhere`),
  ]);
});

test("checkBootstrap() looks at an inode although its entry has another type", () => {
  const made = new Broken();
  E.type.write(made.view, made.entry("fifo"), 1);
  E.type.write(made.view, made.entry("many"), 1);
  const fifo = breakFifo({ view: made.view, inode: (path) => made.inode(path) });
  const [victim = ""] = [...made.image.readdir(made.nid("many"))].flatMap(({ name }) =>
    name > "n" ? name : [],
  );
  const at = made.inode(`many/${victim}`);
  I.mtimeNs.write(made.view, at, 1e9);
  expect(found(made)).toEqual([
    `/fifo ${made.entry("fifo")}: it is a fifo, its entry says type 1`,
    fifo,
    `/many ${made.entry("many")}: it is a directory, its entry says type 1`,
    `/many/${victim} ${at}: its time has more than a second of nanoseconds`,
  ]);
});
