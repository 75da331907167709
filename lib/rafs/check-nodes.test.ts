import { test } from "vitest";
import { type Case, expectViolation } from "./broken-bootstrap.test-support.ts";
import { chunkIndex, extendedInode } from "./inode.ts";

const I = extendedInode.fields;
const C = chunkIndex.fields;

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
  ["chunks of no blob", (b) => C.device.write(b.view, b.index("big"), 0), "/big", "chunk 0 is in no blob"],
  [
    "chunks of an unknown blob",
    (b) => C.device.write(b.view, b.index("big"), 3),
    "/big",
    "chunk 0 is in no blob",
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
    "chunk 1 lies past the end of its blob",
  ],
  [
    "a hole",
    (b) => C.block.write(b.view, b.index("big"), 0xffff_ffff),
    "/big",
    "chunk 0 lies past the end of its blob",
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

test.each(nodes)("checkBootstrap() finds %s", (...row) => expectViolation(row));
