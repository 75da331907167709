/**
 * One path of an image, with what only the bootstrap knows of it.
 *
 * @module
 */
import { byteStringOf, printable } from "../base/byte-string.ts";
import type { NydusImage } from "../image/nydus-image.ts";
import type { RafsImage } from "../rafs/image.ts";
import { nodeAt } from "../tree/find.ts";
import { type Node, sortedEntries } from "../tree/tree.ts";
import { type ChunkFacts, chunkFacts } from "./chunk-facts.ts";
import { type Entry, entriesOf, findNid } from "./entries.ts";

export interface EntryFacts {
  readonly path: string;
  readonly kind: Node["kind"];
  /** v6: nid. v5: inode number. */
  readonly nid: number;
  /** Byte offset of the inode in the bootstrap. */
  readonly offset: number;
  /** Octal permission bits with setuid, setgid and sticky: "0755". */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970; negative before. */
  readonly mtime: number;
  readonly mtimeNs: number;
  readonly links: number;
  /** Bytes; of symlinks those of the target, of directories those of their entries. */
  readonly size: number;
  /** Values in hex. */
  readonly xattrs: Readonly<Record<string, string>>;
}

export interface NodeFacts extends EntryFacts {
  readonly target?: string;
  readonly device?: { readonly major: number; readonly minor: number };
  /** Of directories: names and kinds in byte order. */
  readonly entries?: readonly { readonly name: string; readonly kind: Node["kind"] }[];
  /** Of files, in file order. */
  readonly chunks?: readonly ChunkFacts[];
}

function entryFacts(image: RafsImage, { path, nid, kind }: Entry): EntryFacts {
  const { mode, uid, gid, mtime, mtimeNs, nlink, size } = image.inode(nid);
  const xattrs = [...image.xattrs(nid)].map(
    ([key, value]) => [printable(key), Buffer.from(value).toString("hex")] as const,
  );
  return {
    path: printable(path),
    kind,
    nid,
    offset: image.raw(nid).at,
    mode: `0${(mode & 0o7777).toString(8).padStart(3, "0")}`,
    uid,
    gid,
    mtime,
    mtimeNs,
    links: nlink,
    size,
    xattrs: Object.fromEntries(xattrs),
  };
}

/** Everything, a line's worth each. */
export function* allEntryFacts(image: RafsImage): Generator<EntryFacts, undefined> {
  for (const entry of entriesOf(image)) yield entryFacts(image, entry);
}

/** @throws not_found */
export function nodeFacts({ root, bootstrap }: NydusImage, path: string): NodeFacts {
  const node = nodeAt(root, path);
  const bytes = byteStringOf(path.startsWith("/") ? path : `/${path}`);
  const nid = findNid(bootstrap, bytes) ?? bootstrap.rootNid;
  return { ...entryFacts(bootstrap, { path: bytes, nid, kind: node.kind }), ...ownFacts(node) };
}

function ownFacts(node: Node): Partial<NodeFacts> {
  switch (node.kind) {
    case "file":
      return { chunks: node.chunks.map(chunkFacts) };
    case "directory":
      return {
        entries: sortedEntries(node).map(([name, { kind }]) => ({ name: printable(name), kind })),
      };
    case "symlink":
      return { target: printable(node.target) };
    case "char":
    case "block":
      return { device: { major: node.major, minor: node.minor } };
    case "fifo":
    case "socket":
      return {};
  }
}
