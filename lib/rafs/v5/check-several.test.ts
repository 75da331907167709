/**
 * Several rules of a v5 bootstrap broken at once: the check names each, with path and byte.
 */
import { expect, test } from "vitest";
import { byteStringOf } from "../../base/byte-string.ts";
import { chunkHasher } from "../../base/digest.ts";
import { chunkRecord } from "../chunk-record.ts";
import { sampleTree } from "../sample-tree.test-support.ts";
import { extendedEntry } from "./blob-table.ts";
import { V5Bootstrap } from "./bootstrap.ts";
import { checkV5 } from "./check.ts";
import { inodeRecord } from "./inode.ts";
import type { RawInode } from "./inode-reader.ts";
import { superblock } from "./superblock.ts";
import { writeBootstrapV5 } from "./writer.ts";

const S = superblock.fields;
const B = extendedEntry.fields;
const I = inodeRecord.fields;
const R = chunkRecord.fields;

async function sample(): Promise<V5Bootstrap> {
  const { root, blobs } = sampleTree();
  const bytes = writeBootstrapV5(root, { ...blobs.options, hasher: await chunkHasher("sha256") });
  return new V5Bootstrap(bytes);
}

function named(image: V5Bootstrap, name: string): RawInode {
  return image.raw(image.lookup(1, byteStringOf(name)) ?? expect.fail(name));
}

/** Path and offset of each violation, and its message. */
async function found({ bytes }: V5Bootstrap): Promise<string[]> {
  const violations = await checkV5(bytes);
  return violations.map(({ path, offset, message }) => `${path || "tables"} ${offset}: ${message}`);
}

test("checkV5() names broken fields of superblock and blob tables, and goes on to the inodes", async () => {
  const image = await sample();
  const { view, superblock: facts } = image;
  const { at } = named(image, "fifo");
  const [ids, entries] = [facts.blobTable.offset, facts.extendedTable.offset];
  S.size.write(view, 0, 4096);
  S.inodes.write(view, 0, 2 ** 20);
  view.setUint8(ids + 8, 0x2f);
  B.compressedSize.write(view, entries + extendedEntry.size, 2 ** 41);
  I.nlink.write(view, at, 0);
  expect(await found(image)).toEqual([
    `tables ${S.size.offset}: its superblock claims 4096 bytes`,
    expect.stringMatching(`^tables ${S.inodes.offset}: it claims 1048576 inodes`),
    `tables ${ids + 8}: blob 0 is not named by 64 hex digits`,
    `tables ${entries + extendedEntry.size + B.compressedSize.offset}: blob 1 has ${2 ** 41} compressed bytes`,
    `/fifo ${at}: it has 0 links`,
  ]);
});

test("checkV5() names all tables that lie wrong", async () => {
  const image = await sample();
  S.blobTableOffset.write(image.view, 0, 4);
  S.extendedTableOffset.write(image.view, 0, image.bytes.length);
  expect(await found(image)).toEqual([
    `tables ${S.blobTableOffset.offset}: the blob table cannot start at 4`,
    `tables ${S.extendedTableOffset.offset}: the extended blob table ends past the end of the file`,
  ]);
});

test("checkV5() names all that is wrong with one inode, and the digests of others", async () => {
  const image = await sample();
  const { view } = image;
  const [fifo, big, link] = ["fifo", "big", "link"].map((name) => named(image, name).at) as [
    number,
    number,
    number,
  ];
  I.nlink.write(view, fifo, 0);
  I.mtimeNs.write(view, fifo, 1e9);
  I.childCount.write(view, fifo, 1);
  view.setUint8(link, view.getUint8(link) ^ 1);
  const chunk = named(image, "big").chunks.offset;
  R.fileOffset.write(view, chunk, 1);
  R.uncompressedSize.write(view, chunk + chunkRecord.size, 1);
  view.setUint8(big, view.getUint8(big) ^ 1);
  const lines = await found(image);
  expect(lines).toEqual(
    expect.arrayContaining([
      `/fifo ${fifo}: it has 0 links`,
      `/fifo ${fifo}: its time has more than a second of nanoseconds`,
      `/fifo ${fifo}: a fifo has data`,
      `/big ${chunk}: chunk 0 says that it is of another part of the file`,
      `/big ${chunk + chunkRecord.size}: chunk 1 has not the size of its part of the file`,
      `/big ${big}: its content does not match its digest`,
      `/link ${link}: its content does not match its digest`,
      // It is made of those of what is in it.
      expect.stringMatching(/^\/ \d+: its content does not match its digest$/),
    ]),
  );
});

test("checkV5() names every broken chunk record", async () => {
  const image = await sample();
  const { offset } = named(image, "big").chunks;
  const record = (i: number): number => offset + i * chunkRecord.size;
  R.blob.write(image.view, record(0), 9);
  R.compressedSize.write(image.view, record(1), 0);
  R.flags.write(image.view, record(2), 8);
  expect(await found(image)).toEqual([
    `tables ${record(0)}: the chunk record at ${record(0)} names no blob`,
    expect.stringMatching(`^tables ${record(1)}: .* is stored past the end of blob`),
    expect.stringMatching(`^tables ${record(2)}: .* has flags 0x8 that v5 does not have`),
    expect.stringMatching(`^tables ${record(2)}: .* stored bytes for 4096`),
  ]);
});

test("checkV5() goes on behind an inode that lies nowhere", async () => {
  const image = await sample();
  const { view, superblock: facts } = image;
  const lost = named(image, "capable");
  const { at } = named(image, "fifo");
  const entry = facts.inodeTable.offset + 4 * (lost.number - 1);
  view.setUint32(entry, 0x1fff_ffff, true);
  I.nlink.write(view, at, 0);
  expect(await found(image)).toEqual([
    `/ ${entry}: inode ${lost.number} lies outside the file`,
    `/fifo ${at}: it has 0 links`,
  ]);
});

test("checkV5() names an offset of a chunk that no number holds, and throws nothing", async () => {
  const image = await sample();
  const at = named(image, "big").chunks.offset + R.uncompressedOffset.offset;
  image.bytes.fill(0xff, at, at + 8);
  expect(await found(image)).toContainEqual(expect.stringMatching(/^tables .*: .*value is past 2\^53/));
});
