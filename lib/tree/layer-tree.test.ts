import { expect, test } from "vitest";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { dumpTree } from "./dump.ts";
import { LayerTreeBuilder } from "./layer-tree.ts";
import { pathNames } from "./path.ts";
import type { Attributes } from "./tree.ts";

const b = byteStringOf;
const at = (mode = 0o644, rest: Partial<Attributes> = {}): Attributes => ({
  mode,
  uid: 0,
  gid: 0,
  mtime: 5,
  mtimeNs: 0,
  xattrs: new Map(),
  ...rest,
});

/** One entry a line: "d PATH [MODE]", "f PATH", "l PATH TARGET", "h PATH TARGET", "p PATH". */
function build(script: string): LayerTreeBuilder {
  const builder = new LayerTreeBuilder();
  for (const line of script.split("\n").map((text) => text.trim())) {
    const [kind, path = "", rest = ""] = line.split(" ");
    if (kind === "d") builder.addDirectory(b(path), at(rest === "" ? 0o755 : Number.parseInt(rest, 8)));
    else if (kind === "f") builder.addFile(b(path), at(), 0, []);
    else if (kind === "l") builder.addSymlink(b(path), at(0o777), b(rest));
    else if (kind === "h") builder.addHardlink(b(path), b(rest));
    else if (kind === "p") builder.addFifo(b(path), at());
  }
  return builder;
}

/** Paths and kinds only. */
function shape(script: string): string[] {
  return [...dumpTree(build(script).root)].map((line) => {
    const [path, kind] = line.split(" ");
    const more = line.split(" ").filter((field) => /^(implicit|nlink=|target=)/.test(field));
    return [path, kind, ...more].join(" ");
  });
}

test("LayerTreeBuilder makes parents that no entry mentions, and marks them", () => {
  expect(shape("f a/b/c")).toEqual([
    "/ directory implicit",
    "/a directory implicit",
    "/a/b directory implicit",
    "/a/b/c file",
  ]);
});

test("LayerTreeBuilder gives an implicit directory the attributes of a later entry and keeps what is in it", () => {
  const lines = [...dumpTree(build("f a/b\nd a 0700\nd ./ 0711").root)];
  expect(lines).toEqual(["/ directory 0711 0:0 5", "/a directory 0700 0:0 5", "/a/b file 0644 0:0 5 size=0"]);
});

test("LayerTreeBuilder strips ./ and leading slashes and takes .. back", () => {
  expect(shape("f ./a//b/\nf /c\nf x/../d\nf ./././e/.")).toEqual([
    "/ directory implicit",
    "/a directory implicit",
    "/a/b file",
    "/c file",
    "/d file",
    "/e file",
  ]);
});

test("LayerTreeBuilder replaces a repeated path, but for a directory's entries", () => {
  expect(shape("f a\nd a\nf a/in\nd a 0700\nf b/x\nf b")).toEqual([
    "/ directory implicit",
    "/a directory",
    "/a/in file",
    "/b file",
  ]);
});

test("LayerTreeBuilder makes a hard link one more name of the same node", () => {
  const { root } = build("f a\nh d/b a\nl s t\nh s2 /s\nf a");
  expect(
    [...dumpTree(root)].map((line) => line.split(" ")[0] + (line.includes("nlink=2") ? " 2" : "")),
  ).toEqual(["/", "/a", "/d", "/d/b", "/s 2", "/s2 2"]);
});

test("LayerTreeBuilder follows symbolic links on the way, inside the layer only", () => {
  expect(
    shape("l lib usr/lib\nf lib/x\nl abs /usr/lib\nf abs/y\nl up ../../../usr\nf up/z\nl lib2 lib\nf lib2/w"),
  ).toEqual([
    "/ directory implicit",
    "/abs symlink target=/usr/lib",
    "/lib symlink target=usr/lib",
    "/lib2 symlink target=lib",
    "/up symlink target=../../../usr",
    "/usr directory implicit",
    "/usr/lib directory implicit",
    "/usr/lib/w file",
    "/usr/lib/x file",
    "/usr/lib/y file",
    "/usr/z file",
  ]);
});

test("LayerTreeBuilder replaces a link that is an entry's own name, and does not follow it", () => {
  expect(shape("l a /etc\nf a\nl d /etc\nd d")).toEqual(["/ directory implicit", "/a file", "/d directory"]);
});

test("LayerTreeBuilder.ignores() what eStargz adds to the root, and nothing else", () => {
  const { ignores } = LayerTreeBuilder.prototype;
  const ignored = ["stargz.index.json", "./.prefetch.landmark", "/.no.prefetch.landmark"];
  expect(ignored.map((path) => ignores(b(path)))).toEqual([true, true, true]);
  expect(["etc/stargz.index.json", "stargz.index.json.bak", "."].map((path) => ignores(b(path)))).toEqual([
    false,
    false,
    false,
  ]);
});

const long = "n".repeat(256);
test.each([
  ["a path out of the image", "f ../x", '"../x": it leads out of the image'],
  ["a path out of the image further on", "f a/../../x", "it leads out of the image"],
  ["a hard link out of the image", "h x ../../etc/passwd", "it leads out of the image"],
  ["a name of 256 bytes", `f a/${long}`, "a name in it has 256 bytes, more than 255"],
  ["a path of 5000 bytes", `f ${"a/".repeat(2500)}b`, "it has 5001 bytes, more than 4095"],
  ["a parent that is a file", "f a\nf a/b", '"a/b": its parent is a file'],
  ["a parent that is a fifo", "p a\nd a/b/c", '"a/b/c": its parent is a fifo'],
  ["links in a circle", "l a b\nl b a\nf a/x", "it leads through too many symbolic links"],
  ["a hard link to nothing", "h a b", 'it is a hard link to "b", which its layer does not have'],
  ["a hard link to a directory", "d b\nh a b", 'it is a hard link to "b", a directory'],
  ["a hard link to the root", "h a /", 'it is a hard link to "/", a directory'],
  ["a root that is a file", "f ./", "the root is a directory, not a file"],
  ["a link target of no bytes", "l a ", "its link target of 0 bytes cannot be one"],
  ["a link target of 4096 bytes", `l a ${"x".repeat(4096)}`, "its link target of 4096 bytes cannot be one"],
])("LayerTreeBuilder refuses %s", (_, script, message) => {
  expect(() => build(script)).toThrow(
    expect.objectContaining({ code: "corrupt", message: expect.stringContaining(message) }),
  );
});

test("LayerTreeBuilder refuses device numbers that Linux does not have", () => {
  const builder = new LayerTreeBuilder();
  builder.addDevice(b("ok"), at(), { kind: "char", major: 4095, minor: 0xfffff });
  for (const [major, minor] of [
    [4096, 0],
    [0, 2 ** 20],
    [-1, 0],
  ] as const)
    expect(() => builder.addDevice(b("x"), at(), { kind: "block", major, minor })).toThrow(
      "does not exist in Linux",
    );
});

test("pathNames() keeps every byte of a name", () => {
  const name = "\xff\x01 \n" as ByteString;
  expect(pathNames(`./${name}/x` as ByteString)).toEqual([name, "x"]);
  expect(() => pathNames("a\0b" as ByteString)).toThrow("it contains a NUL");
});
