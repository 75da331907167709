import fc from "fast-check";
import { expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { dumpTree } from "./dump.ts";
import { LayerTreeBuilder } from "./layer-tree.ts";
import { mergeLayers } from "./overlay.ts";
import type { Directory } from "./tree.ts";

/** Layers as lists of paths: those that end with "/" are directories, "PATH=MODE" sets a mode. */
function layer(...items: string[]): Directory {
  const builder = new LayerTreeBuilder();
  for (const item of items) {
    const [path = "", mode = ""] = item.split("=");
    const attributes = {
      mode: mode === "" ? (path.endsWith("/") ? 0o755 : 0o644) : Number.parseInt(mode, 8),
      uid: 0,
      gid: 0,
      mtime: 1,
      mtimeNs: 0,
      xattrs: new Map(),
    };
    if (path.endsWith("/")) builder.addDirectory(byteStringOf(path), attributes);
    else builder.addFile(byteStringOf(path), attributes, 0, []);
  }
  return builder.root;
}

/** Paths below the root, with the mode where it is not the usual one. */
function merged(...layers: Directory[]): string[] {
  return [...dumpTree(mergeLayers(layers))].slice(1).map((line) => {
    const [path = "", kind, mode = ""] = line.split(" ");
    const usual = kind === "directory" ? "0755" : "0644";
    const slash = kind === "directory" ? "/" : "";
    return `${path.slice(1)}${slash}${mode === usual ? "" : `=${mode}`}`;
  });
}

test("mergeLayers() adds, replaces and keeps", () => {
  expect(merged(layer("a/", "a/x", "b"), layer("a/y", "b=600", "c"))).toEqual([
    "a/",
    "a/x",
    "a/y",
    "b=0600",
    "c",
  ]);
});

test("mergeLayers() hides what a whiteout names, and shows no markers", () => {
  expect(merged(layer("a/x", "a/y", "b/z", "c"), layer("a/.wh.x", ".wh.b", ".wh.nothing"))).toEqual([
    "a/",
    "a/y",
    "c",
  ]);
});

test("mergeLayers() lets a whiteout hide lower layers only, whatever the order in its layer", () => {
  expect(merged(layer("a/old"), layer(".wh.a", "a/", "a/new"))).toEqual(["a/", "a/new"]);
  expect(merged(layer("a/old"), layer("a/", "a/new", ".wh.a"))).toEqual(["a/", "a/new"]);
});

test("mergeLayers() lets an opaque marker hide all lower entries of its directory, whatever the order", () => {
  const lower = layer("a/", "a/x", "a/sub/y", "b");
  expect(merged(lower, layer("a/.wh..wh..opq", "a/new"))).toEqual(["a/", "a/new", "b"]);
  expect(merged(lower, layer("a/new", "a/sub/z", "a/.wh..wh..opq"))).toEqual([
    "a/",
    "a/new",
    "a/sub/",
    "a/sub/z",
    "b",
  ]);
});

test("mergeLayers() lets what was deleted come back in a later layer, without its old entries", () => {
  expect(merged(layer("a/x"), layer(".wh.a"), layer("a/y"))).toEqual(["a/", "a/y"]);
});

test("mergeLayers() shows no markers of the lowest layer either, nor AUFS's own files", () => {
  expect(merged(layer("a/.wh.x", "a/.wh..wh..opq", "a/y", ".wh..wh.plnk/", ".wh..wh.aufs"))).toEqual([
    "a/",
    "a/y",
  ]);
});

test("mergeLayers() keeps a directory's attributes where an upper layer only passes through it", () => {
  expect(merged(layer("a/=700", "a/b/=711"), layer("a/b/c"))).toEqual(["a/=0700", "a/b/=0711", "a/b/c"]);
  expect(merged(layer("a/=700", "a/x"), layer("a/.wh.x"))).toEqual(["a/=0700"]);
  expect(merged(layer("a/=700"), layer("a/=711"))).toEqual(["a/=0711"]);
  expect(merged(layer("a/=700"), layer("a/.wh..wh..opq", "a/x"))).toEqual(["a/=0700", "a/x"]);
});

test("mergeLayers() gives a directory over something else a start of its own", () => {
  expect(merged(layer("a=600"), layer("a/x"))).toEqual(["a/", "a/x"]);
  expect(merged(layer("a/=700", "a/x"), layer("a=600"))).toEqual(["a=0600"]);
  expect(merged(layer("a/=700", "a/x"), layer("a"), layer("a/y"))).toEqual(["a/", "a/y"]);
});

test("mergeLayers() takes the root's attributes from the highest layer that has them", () => {
  const root = (...layers: Directory[]): string => [...dumpTree(mergeLayers(layers))][0] ?? "";
  expect(root(layer("./=700"), layer("a"))).toBe("/ directory 0700 0:0 1");
  expect(root(layer("./=700"), layer("./=711"))).toBe("/ directory 0711 0:0 1");
  expect(root(layer("a"))).toBe("/ directory 0755 0:0 0 implicit");
  expect(root()).toBe("/ directory 0755 0:0 0 implicit");
});

test("mergeLayers() leaves its layers as they were", () => {
  const layers = [layer("a/x", "b"), layer("a/.wh.x", "a/.wh..wh..opq", ".wh.b", "c")];
  const before = layers.map((root) => [...dumpTree(root)]);
  mergeLayers(layers);
  expect(layers.map((root) => [...dumpTree(root)])).toEqual(before);
});

test("mergeLayers() keeps names of one node together when only some are hidden", () => {
  const builder = new LayerTreeBuilder();
  const attributes = { mode: 0o644, uid: 0, gid: 0, mtime: 1, mtimeNs: 0, xattrs: new Map() };
  builder.addFile(byteStringOf("a"), attributes, 0, []);
  for (const name of ["b", "c"]) builder.addHardlink(byteStringOf(name), byteStringOf("a"));
  const lines = [...dumpTree(mergeLayers([builder.root, layer(".wh.a")]))];
  expect(lines.slice(1)).toEqual(["/b file 0644 0:0 1 nlink=2 size=0", "/c file 0644 0:0 1 nlink=2 size=0"]);
});

test("mergeLayers() gives the same result however layers are grouped, as long as none is the lowest of a group", () => {
  const name = fc.constantFrom("a", "b", ".wh.a", ".wh.b", ".wh..wh..opq");
  const path = fc
    .tuple(fc.array(fc.constantFrom("a", "b"), { maxLength: 2 }), name, fc.boolean())
    .map(([dirs, last, slash]) => [...dirs, last].join("/") + (slash && !last.startsWith(".wh.") ? "/" : ""));
  // A file where the same layer has a directory is an error of that layer.
  const made = fc.array(path, { maxLength: 6 }).map((paths) => {
    const good: string[] = [];
    for (const item of paths) {
      try {
        layer(...good, item);
        good.push(item);
      } catch {
        // left out
      }
    }
    return layer(...good);
  });
  fc.assert(
    fc.property(made, made, made, (one, two, three) => {
      expect(merged(mergeLayers([one, two]), three)).toEqual(merged(one, two, three));
    }),
    { numRuns: 300 },
  );
});
