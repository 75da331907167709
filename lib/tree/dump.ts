/**
 * A tree as text, one line a node in byte order of paths: for golden tests and for people.
 *
 *     /etc/passwd file 0644 0:0 1700000000 nlink=2 size=1234 user.note=68656c6c6f
 *
 * @module
 */
import { type ByteString, printable } from "../base/byte-string.ts";
import { type Attributes, type Directory, type Node, sortedEntries } from "./tree.ts";

/** Spaces, backslashes and control characters would break a line's fields. */
export function quoted(name: ByteString): string {
  return printable(name).replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is to be shown
    /[\x00-\x20\x7f]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

function attributeFields({ mode, uid, gid, mtime, mtimeNs }: Attributes): string {
  const ns = mtimeNs === 0 ? "" : `.${String(mtimeNs).padStart(9, "0")}`;
  return `0${mode.toString(8).padStart(3, "0")} ${uid}:${gid} ${mtime}${ns}`;
}

function ownFields(node: Node): string[] {
  switch (node.kind) {
    case "file":
      return [`size=${node.size}`];
    case "symlink":
      return [`target=${quoted(node.target)}`];
    case "char":
    case "block":
      return [`device=${node.major}:${node.minor}`];
    case "directory":
      return node.implicit === true ? ["implicit"] : [];
    case "fifo":
    case "socket":
      return [];
  }
}

function xattrFields(xattrs: Attributes["xattrs"]): string[] {
  return [...xattrs]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${quoted(key)}=${Buffer.from(value).toString("hex")}`);
}

/** How many names each node other than a directory has. */
export function countLinks(root: Directory): Map<Node, number> {
  const links = new Map<Node, number>();
  const visit = (dir: Directory): void => {
    for (const node of dir.entries.values()) {
      if (node.kind === "directory") visit(node);
      else links.set(node, (links.get(node) ?? 0) + 1);
    }
  };
  visit(root);
  return links;
}

export function* dumpTree(root: Directory): Generator<string> {
  const links = countLinks(root);
  yield* dumpNode("/", root, links);
}

function* dumpNode(path: string, node: Node, links: Map<Node, number>): Generator<string> {
  const nlink = links.get(node) ?? 1;
  const fields = [
    path,
    node.kind,
    attributeFields(node.attributes),
    ...(nlink > 1 ? [`nlink=${nlink}`] : []),
    ...ownFields(node),
    ...xattrFields(node.attributes.xattrs),
  ];
  yield fields.join(" ");
  if (node.kind !== "directory") return;
  for (const [name, child] of sortedEntries(node))
    yield* dumpNode(`${path === "/" ? "" : path}/${quoted(name)}`, child, links);
}
