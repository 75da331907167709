import { expect, test } from "vitest";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { diffTrees } from "./diff.ts";
import {
  type Attributes,
  type ChunkRef,
  type Directory,
  directory,
  IMPLICIT_DIRECTORY,
  type Node,
  type RegularFile,
} from "./tree.ts";

const PLAIN: Attributes = { ...IMPLICIT_DIRECTORY, mode: 0o644 };

function file(content = "", attributes: Partial<Attributes> = {}): RegularFile {
  const chunks = [...content].map((c) => ({ digest: Buffer.from(c) }) as unknown as ChunkRef);
  return { kind: "file", attributes: { ...PLAIN, ...attributes }, size: content.length, chunks };
}

function tree(entries: Record<string, Node>, attributes: Partial<Attributes> = {}): Directory {
  const dir = directory({ ...PLAIN, ...attributes });
  for (const [name, node] of Object.entries(entries)) dir.entries.set(byteStringOf(name), node);
  return dir;
}

function differences(before: Directory, after: Directory): string[] {
  return Array.from(diffTrees(before, after), ({ path, change, fields }) =>
    [path, change, ...fields].join(" "),
  );
}

test("diffTrees() finds nothing where nothing differs", () => {
  const make = () =>
    tree({
      a: file("x"),
      d: tree({ b: file("y", { xattrs: new Map([["k" as ByteString, Buffer.from("v")]]) }) }),
    });
  expect(differences(make(), make())).toEqual([]);
});

test("diffTrees() names what came and went, directories before what is in them", () => {
  const before = tree({ gone: tree({ below: file() }), "gone.x": file(), stays: file() });
  const after = tree({ came: tree({ below: file() }), stays: file() });
  expect(differences(before, after)).toEqual([
    "/came added",
    "/came/below added",
    "/gone removed",
    "/gone/below removed",
    "/gone.x removed",
  ]);
});

const target = (to: string): Node => ({ kind: "symlink", attributes: PLAIN, target: byteStringOf(to) });
const device = (minor: number): Node => ({ kind: "char", attributes: PLAIN, major: 1, minor });
const xattrs = (value: string, key = "k") => ({ xattrs: new Map([[key as ByteString, Buffer.from(value)]]) });

test.each<[string, Node, Node]>([
  ["mode", file(), file("", { mode: 0o600 })],
  ["uid", file(), file("", { uid: 1 })],
  ["gid", file(), file("", { gid: 1 })],
  ["mtime", file(), file("", { mtimeNs: 1 })],
  ["xattrs", file("", xattrs("a")), file("", xattrs("b"))],
  ["xattrs", file("", xattrs("a")), file("", xattrs("a", "other"))],
  ["xattrs", file(), file("", xattrs("a"))],
  ["content", file("ab"), file("ac")],
  ["size content", file("ab"), file("abc")],
  ["target", target("a"), target("b")],
  ["device", device(3), device(5)],
  ["type", file(), target("a")],
  ["type", tree({}), file()],
])("diffTrees() tells a change of %s", (fields, before, after) => {
  expect(differences(tree({ n: before }), tree({ n: after }))).toEqual([`/n changed ${fields}`]);
});

test("diffTrees() tells hard links from copies, and which names belong together", () => {
  const [a, b] = [file("x"), file("x")];
  const linked = tree({ "1": a, "2": a, "3": b, "4": b });
  const crossed = tree({ "1": a, "2": b, "3": a, "4": b });
  const copies = tree({ "1": file("x"), "2": file("x"), "3": b, "4": b });
  expect(differences(linked, copies)).toEqual(["/1 changed link", "/2 changed link"]);
  expect(differences(linked, crossed)).toEqual(["/2 changed link", "/3 changed link", "/4 changed link"]);
});

test("diffTrees() looks at the root's own attributes", () => {
  expect(differences(tree({}), tree({}, { uid: 5 }))).toEqual(["/ changed uid"]);
});
