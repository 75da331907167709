/**
 * A tree as tar entries, in the form of an image layer: every node, hard links as such, all attributes. Sockets have no
 * form in a tar and are left out, as `tar` does; so are directories that a layer does not mention (implicit ones).
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { byteStringOf } from "../base/byte-string.ts";
import { type TarItem, writeTar } from "../tar/writer.ts";
import { FileContents } from "../tree/file-contents.ts";
import type { ChunkRef, Directory, Node } from "../tree/tree.ts";
import { chunksInOrder, type Enter, visits } from "../tree/walk.ts";

/** The verified content of each chunk, in the order given. */
export type ReadChunks = (wanted: Iterable<ChunkRef>) => AsyncGenerator<Uint8Array, undefined>;

export interface TarOptions {
  /** Called for each entry, and for the bytes of file data as they are written. */
  readonly onProgress?: (entries: number, bytes: number) => void;
}

/** A whole archive, piece by piece. @throws what reading chunks throws */
export async function* treeToTar(
  root: Directory,
  readChunks: ReadChunks,
  options: TarOptions = {},
): AsyncGenerator<Uint8Array, undefined> {
  await using contents = new FileContents(readChunks(chunksInOrder(root)));
  yield* writeTar(items(root, contents, options.onProgress ?? (() => {})));
}

function* items(
  root: Directory,
  contents: FileContents,
  report: (entries: number, bytes: number) => void,
): Generator<TarItem> {
  for (const visit of visits(root)) {
    if (visit.kind === "leave" || isUnsaid(visit.node)) continue;
    yield itemOf(visit, contents);
    report(1, visit.node.kind === "file" && visit.first === undefined ? visit.node.size : 0);
  }
}

/** Sockets, and directories that come into being through what is in them. */
function isUnsaid(node: Node): boolean {
  return node.kind === "socket" || (node.kind === "directory" && node.implicit === true);
}

function itemOf({ path, first, node }: Enter, contents: FileContents): TarItem {
  if (first !== undefined)
    return { kind: "hardlink", path, linkTarget: first, ...node.attributes, xattrs: new Map() };
  switch (node.kind) {
    case "directory":
      return {
        kind: "directory",
        path: path === "" ? byteStringOf("./") : (`${path}/` as ByteString),
        ...node.attributes,
      };
    case "file":
      return { kind: "file", path, ...node.attributes, size: node.size, body: contents.next(node) };
    case "symlink":
      return { kind: "symlink", path, ...node.attributes, linkTarget: node.target };
    case "char":
    case "block":
      return { kind: node.kind, path, ...node.attributes, major: node.major, minor: node.minor };
    default:
      return { kind: "fifo", path, ...node.attributes };
  }
}
