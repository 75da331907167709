import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type GoldenLine, golden, hasGolden } from "../../tests/support/golden.ts";
import { sha256 } from "../base/digest.ts";
import { layersOf, pieces } from "../rafs/oci-layout.test-support.ts";
import { readTar } from "../tar/reader.ts";
import { countLinks } from "./dump.ts";
import { LayerTreeBuilder } from "./layer-tree.ts";
import { mergeLayers } from "./overlay.ts";
import type { Directory, Node } from "./tree.ts";

/** A golden line of a tree, which may have sockets. */
type Shown = Omit<GoldenLine, "type"> & { readonly type: string };

/** The content's digest takes the place of chunks. */
type Contents = Map<Node, string>;

async function layerTree(tar: Uint8Array, contents: Contents): Promise<Directory> {
  const builder = new LayerTreeBuilder();
  for await (const { body, ...entry } of readTar(pieces(tar))) {
    const { path, kind, size, linkTarget } = entry;
    if (builder.ignores(path)) continue;
    if (kind === "file") {
      const parts: Uint8Array[] = [];
      for await (const part of body) parts.push(part);
      const digest = Buffer.from(sha256(Buffer.concat(parts))).toString("hex");
      const node = addFile(builder, path, entry, size);
      if (node !== undefined) contents.set(node, digest);
    } else if (kind === "directory") builder.addDirectory(path, entry);
    else if (kind === "symlink") builder.addSymlink(path, entry, linkTarget);
    else if (kind === "hardlink") builder.addHardlink(path, linkTarget);
    else if (kind === "fifo") builder.addFifo(path, entry);
    else builder.addDevice(path, entry, { kind, major: entry.major, minor: entry.minor });
  }
  return builder.root;
}

type Added = Parameters<LayerTreeBuilder["addFile"]>;

function addFile(
  builder: LayerTreeBuilder,
  path: Added[0],
  attributes: Added[1],
  size: number,
): Node | undefined {
  builder.addFile(path, attributes, size, []);
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  return names.reduce<Node | undefined>(
    (node, name) => (node?.kind === "directory" ? node.entries.get(name as Added[0]) : undefined),
    builder.root,
  );
}

const TYPES: Readonly<Record<string, string>> = { directory: "dir" };
const text = (bytes: string): string => Buffer.from(bytes, "latin1").toString("utf8");

function describeNode(path: string, node: Node, nlink: number, contents: Contents): Shown {
  const { mode, uid, gid, mtime, xattrs } = node.attributes;
  return {
    path: text(path),
    type: TYPES[node.kind] ?? node.kind,
    mode: mode.toString(8),
    uid,
    gid,
    mtime,
    xattrs: Object.fromEntries(
      [...xattrs].map(([key, value]) => [text(key), Buffer.from(value).toString("hex")]),
    ),
    ...(node.kind === "file" ? { size: node.size, sha256: contents.get(node) ?? "", nlink } : {}),
    ...(node.kind === "symlink" ? { target: text(node.target) } : {}),
    ...(node.kind === "char" || node.kind === "block" ? { rdev: [node.major, node.minor] } : {}),
  };
}

function describeTree(root: Directory, contents: Contents): Map<string, Shown> {
  const links = countLinks(root);
  const found = new Map<string, Shown>();
  const visit = (path: string, node: Node): void => {
    found.set(text(path), describeNode(path, node, links.get(node) ?? 0, contents));
    if (node.kind !== "directory") return;
    for (const [name, child] of node.entries) visit(`${path === "/" ? "" : path}/${name}`, child);
  };
  visit("/", root);
  return found;
}

describe.skipIf(!hasGolden)("golden trees", () => {
  test.each(["plain", "hard"])(
    "mergeLayers() makes of the layers of %s what an image of them must show",
    async (name) => {
      const contents: Contents = new Map();
      const layers: Directory[] = [];
      for (const tar of layersOf(golden(name, "oci"))) layers.push(await layerTree(tar, contents));
      const found = describeTree(mergeLayers(layers), contents);
      const lines = readFileSync(golden(name, "tree.jsonl"), "utf8").trimEnd().split("\n");
      const expected = lines.map((line) => JSON.parse(line) as GoldenLine);
      expect([...found.keys()].sort()).toEqual(expected.map(({ path }) => path).sort());
      for (const line of expected) {
        const got = found.get(line.path);
        expect(line.mtime === null ? { ...got, mtime: null } : got).toEqual(line);
      }
    },
  );
});
