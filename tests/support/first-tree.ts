/**
 * One of each kind of awkward entry: the tree that the first layer of a made image holds.
 *
 * @module
 */
import { fileNode, type Model, type ModelNode, node } from "./model.ts";
import type { Random } from "./random.ts";

const MIB = 1024 * 1024;

/** Around pages, tar blocks and what a format may keep beside the inode. */
const SMALL_SIZES = [0, 1, 2, 511, 512, 513, 2000, 4063, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 12_289];
/** Around chunks; each image gets some of them. */
const LARGE_SIZES = [65_535, 65_536, 65_537, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 4095];

/** Seconds and nanoseconds at the edges of 32-bit, pre-epoch and fractional arithmetic. */
const TIMES = [
  [0, 0],
  [1, 0],
  [-1, 0],
  [-2, 500_000_000],
  [-(2 ** 31), 0],
  [2 ** 31 - 1, 999_999_999],
  [2 ** 31, 0],
  [2 ** 32 - 1, 1],
  [2 ** 32, 0],
  [2 ** 33 + 7, 0],
] as const;

type Tree = Map<string, ModelNode>;

export function firstTree(random: Random): Model {
  const tree: Tree = new Map();
  // Some builders describe the root itself, some leave it out.
  tree.set("", random.chance(0.5) ? node("dir", { mode: 0o751, gid: 3 }) : node("dir", { implicit: true }));
  for (const add of [addContents, addNames, addAttributes, addXattrs, addSpecials, addLinks, addShapes]) {
    add(tree, random);
  }
  return tree;
}

function addContents(tree: Tree, random: Random): void {
  tree.set("data", node("dir"));
  for (const size of SMALL_SIZES) {
    tree.set(`data/prose-${size}`, fileNode(random.prose(size)));
    tree.set(`data/noise-${size}`, fileNode(random.noise(size)));
  }
  for (const size of random.shuffled(LARGE_SIZES).slice(0, 4)) {
    tree.set(`data/prose-${size}`, fileNode(random.prose(size)));
  }
  tree.set("data/noise-large", fileNode(random.noise(MIB + random.below(MIB))));
  tree.set("data/zeros", fileNode(new Uint8Array(3 * MIB + 1)));
  const twice = random.noise(200_000);
  tree.set("data/twice-a", fileNode(twice));
  tree.set("data/twice-b", fileNode(twice.slice()));
}

function addNames(tree: Tree, random: Random): void {
  tree.set("names", node("dir"));
  const utf8 = (text: string): string => Buffer.from(text, "utf8").toString("latin1");
  const odd = [
    "x".repeat(255),
    utf8("é".repeat(127)),
    utf8("名前-🐚-ñ"),
    "not\xff\xfeutf8\x80",
    " leading and trailing ",
    "tab\tnewline\nreturn\r",
    "back\\slash",
    "-rf",
    "...",
    "..x",
    "quote'\"$`",
    "equals=in=it",
    "wh.not-a-whiteout",
    "%41",
  ];
  for (const name of odd) tree.set(`names/${name}`, fileNode(name));
  // Long paths fall on either side of what a plain header, its prefix field and 255 bytes can hold.
  for (const length of [90, 99, 100, 101, 154, 155, 156, 240, 255]) {
    tree.set(`names/${random.name(length)}`, fileNode(`${length}`));
  }
}

function addAttributes(tree: Tree, random: Random): void {
  tree.set("attributes", node("dir", { mode: 0o1777 }));
  TIMES.forEach(([mtime, mtimeNs], i) => {
    tree.set(`attributes/time-${i}`, fileNode(`${mtime}`, { mtime, mtimeNs }));
    tree.set(`attributes/time-dir-${i}`, node("dir", { mtime, mtimeNs }));
  });
  for (const mode of [0, 0o1, 0o111, 0o444, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777]) {
    tree.set(`attributes/mode-${mode.toString(8)}`, fileNode(random.name(9), { mode }));
    tree.set(`attributes/mode-dir-${mode.toString(8)}`, node("dir", { mode }));
  }
  for (const id of [1, 65_534, 65_535, 65_536, 2_097_151, 2_097_152, 4_294_967_294]) {
    tree.set(`attributes/owner-${id}`, fileNode("owner", { uid: id, gid: id - 1 }));
  }
}

/** VFS capability version 2 with the "effective" flag and the given permitted bits. */
function capability(permitted: number): Uint8Array {
  const value = Buffer.alloc(20);
  value.writeUInt32LE(0x0200_0001, 0);
  value.writeUInt32LE(permitted, 4);
  return value;
}

function addXattrs(tree: Tree, random: Random): void {
  const text = (value: string): Uint8Array => Buffer.from(value, "latin1");
  const sets: [string, Uint8Array][][] = [
    [["user.empty", new Uint8Array(0)]],
    [["user.binary", text("\0\n=\xff\x80 42 path=evil\n\0")]],
    [["security.capability", capability(0x400)]],
    [["security.capability", capability(0x0a0a_0a0a)]],
    [["trusted.kept", text("by root")]],
    [["user.large", random.noise(3000)]],
    [[`user.${"n".repeat(250)}`, text("longest name")]],
    Array.from({ length: 40 }, (_, i): [string, Uint8Array] => [`user.many-${i}`, text(`${i}`.repeat(i))]),
  ];
  tree.set("xattrs", node("dir", { xattrs: new Map([["user.on-a-directory", text("yes")]]) }));
  sets.forEach((set, i) => {
    const xattrs = new Map(random.shuffled(set));
    tree.set(`xattrs/file-${i}`, fileNode(`${i}`, { xattrs }));
    if (i % 3 === 0) tree.set(`xattrs/dir-${i}`, node("dir", { xattrs }));
  });
  // A value that many inodes share is a candidate for a shared table.
  const shared = new Map([["user.shared", text("the same on all of them")]]);
  for (let i = 0; i < 12; i++)
    tree.set(`xattrs/shared-${i}`, fileNode("", { xattrs: new Map(shared), uid: i }));
  tree.set(
    "xattrs/symlink",
    node("symlink", { target: "file-0", xattrs: new Map([["trusted.s", text("s")]]) }),
  );
}

function addSpecials(tree: Tree, random: Random): void {
  tree.set("dev", node("dir"));
  tree.set("dev/pipe", node("fifo", { mode: 0o620 }));
  const numbers = [
    [0, 0],
    [1, 3],
    [8, 255],
    [255, 256],
    [4095, 1_048_575],
  ] as const;
  numbers.forEach(([major, minor], i) => {
    // Overlayfs takes a character device 0:0 for a whiteout, so an image cannot show one to a container.
    if (major > 0) tree.set(`dev/char-${i}`, node("char", { major, minor, mode: 0o666 }));
    tree.set(`dev/block-${i}`, node("block", { major, minor, mode: 0o660, gid: 6 + random.below(9) }));
  });
  for (const target of [
    "file",
    "/",
    "..",
    "../../../escape",
    "",
    "t".repeat(99),
    "t".repeat(100),
    "t".repeat(101),
  ]) {
    if (target !== "") tree.set(`dev/link-${target.length}-${random.name(4)}`, node("symlink", { target }));
  }
  tree.set("dev/link-longest", node("symlink", { target: `${"d/".repeat(2047)}e`, mtime: 5 }));
  tree.set("dev/link-bytes", node("symlink", { target: "\xfe\xed \n" }));
}

function addLinks(tree: Tree, random: Random): void {
  for (const dir of ["links", "links/near", "links/far", "links/far/below"]) tree.set(dir, node("dir"));
  for (let i = 0; i < 6; i++) {
    const linked = fileNode(random.prose(3000 * i), { mtime: 1_650_000_000 + i });
    const places = ["links/near", "links/far", "links/far/below", "links"];
    for (const place of places.slice(0, 2 + (i % 3))) tree.set(`${place}/link-${i}`, linked);
    tree.set(`links/near/again-${i}`, linked);
  }
}

function addShapes(tree: Tree, random: Random): void {
  tree.set("shapes", node("dir"));
  tree.set("shapes/empty", node("dir"));
  tree.set("shapes/many", node("dir"));
  // Names of every length make directory blocks end at every place.
  for (let i = 0; i < 2500; i++) {
    const data = i % 7 === 0 ? `${i}` : "";
    tree.set(`shapes/many/${i}-${random.name(random.between(1, 60))}`, fileNode(data));
  }
  let path = "shapes/deep";
  tree.set(path, node("dir"));
  for (let depth = 0; depth < 70; depth++) {
    path += `/${random.name(random.between(1, 40))}`;
    tree.set(path, node("dir", { mode: 0o700 + random.below(0o100) }));
  }
  tree.set(`${path}/bottom`, fileNode("bottom"));
  tree.set("shapes/implicit", node("dir", { implicit: true }));
  tree.set("shapes/implicit/twice", node("dir", { implicit: true }));
  tree.set("shapes/implicit/twice/file", fileNode("its parents have no entries"));
  for (let i = 0; i < 150; i++) {
    const place = `shapes/tree-${i % 10}`;
    tree.set(place, node("dir"));
    tree.set(`${place}/${i}.txt`, fileNode(random.prose(random.below(9000)), { uid: i % 4 }));
  }
}
