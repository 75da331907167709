/**
 * An image's files by path, as a process inside it would find them: symbolic links are followed, and nothing leads out
 * of the root.
 *
 * @module
 */
import type { ByteString } from "../../base/byte-string.ts";
import type { Directory, Node, RegularFile } from "../../tree/tree.ts";

/** Content of a file, or of a part of it; undefined when it cannot be had here. */
export type ReadFile = (file: RegularFile, offset: number, length: number) => Uint8Array | undefined;

export interface FoundFile {
  /** Without symbolic links, with a leading "/". Byte strings here and everywhere below. */
  readonly path: string;
  readonly file: RegularFile;
}

/** Linux stops at as many. */
const MAX_LINKS = 40;
const MAX_TEXT = 1 << 20;

export class ImageFiles {
  readonly #root: Directory;
  readonly #read: ReadFile;

  constructor(root: Directory, read: ReadFile) {
    this.#root = root;
    this.#read = read;
  }

  /** A regular file. */
  find(path: string): FoundFile | undefined {
    const found = this.#walk(path);
    return found?.node.kind === "file" ? { path: found.path, file: found.node } : undefined;
  }

  /** Names in a directory, sorted; none if it is not there. */
  list(path: string): readonly string[] {
    const found = this.#walk(path);
    return found?.node.kind === "directory" ? [...found.node.entries.keys()].sort() : [];
  }

  isDirectory(path: string): boolean {
    return this.#walk(path)?.node.kind === "directory";
  }

  read(file: RegularFile, offset: number, length: number): Uint8Array | undefined {
    const end = Math.min(offset + length, file.size);
    return offset >= end ? undefined : this.#read(file, offset, end - offset);
  }

  /** Of a file that people write; undefined for one that is larger than those are. */
  text(file: RegularFile): string | undefined {
    if (file.size === 0 || file.size > MAX_TEXT) return undefined;
    const bytes = this.read(file, 0, file.size);
    return bytes && Buffer.from(bytes).toString("latin1");
  }

  #walk(path: string): { readonly path: string; readonly node: Node } | undefined {
    let links = 0;
    const names = path.split("/").reverse();
    const above: { readonly name: string; readonly node: Directory }[] = [];
    for (let name = names.pop(); name !== undefined; name = names.pop()) {
      if (name === "" || name === ".") continue;
      if (name === "..") {
        above.pop();
        continue;
      }
      const here = above.at(-1)?.node ?? this.#root;
      const node = here.entries.get(name as ByteString);
      if (node?.kind === "symlink") {
        if (++links > MAX_LINKS) return undefined;
        if (node.target.startsWith("/")) above.length = 0;
        names.push(...node.target.split("/").reverse());
      } else if (node?.kind === "directory") above.push({ name, node });
      else if (node === undefined || names.some((rest) => rest !== "" && rest !== ".")) return undefined;
      else return { path: joined(above, name), node };
    }
    return { path: joined(above), node: above.at(-1)?.node ?? this.#root };
  }
}

function joined(above: readonly { readonly name: string }[], last?: string): string {
  const names = above.map(({ name }) => name);
  return `/${[...names, ...(last === undefined ? [] : [last])].join("/")}`;
}

export function directoryOf(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf("/")));
}
