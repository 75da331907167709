/**
 * Builds the tree of one layer from archive entries, one at a time, as container runtimes unpack them into an empty
 * directory:
 *
 * - "./" and leading "/" are stripped; a path that climbs out of the root with ".." is refused;
 * - symbolic links on the way to an entry are followed inside the layer, as runtimes do (packages with "lib/..." after
 *   a link "lib -> usr/lib" rely on it); the entry's own name is not;
 * - parents that no entry mentions come into being, marked implicit; a parent that is a file is an error, as it is for
 *   a runtime;
 * - a repeated path replaces what was there, except that a directory repeated only gets new attributes;
 * - a hard link is one more name for the node that its target names at that moment; the link's own header adds nothing.
 *
 * Whiteouts stay what they are in a layer, empty files named `.wh.*`: `mergeLayers` acts on them.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { corrupt, type NydusError } from "../base/error.ts";
import { MAX_PATH, pathNames, shownPath } from "./path.ts";
import { type Attributes, type ChunkRef, type Directory, directory, type Node } from "./tree.ts";

/** What eStargz adds to layers for itself; it only counts in the root, and a file system shows none of it. */
const ESTARGZ_FILES: ReadonlySet<string> = new Set([
  "stargz.index.json",
  ".prefetch.landmark",
  ".no.prefetch.landmark",
]);

/** A layer of more would not fit into memory, and its bootstrap not into 2 GiB. */
const MAX_NODES = 10_000_000;

/** Linux gives up after 40 symbolic links in one path. */
const MAX_LINKS = 40;

export class LayerTreeBuilder {
  #root: Directory = directory();
  #nodes = 0;

  /** The tree so far: complete when the last entry was added. */
  get root(): Directory {
    return this.#root;
  }

  /** Whether the entry is to be left out altogether; then its body need not be read either. */
  ignores(path: ByteString): boolean {
    return ESTARGZ_FILES.has(path.replace(/^(?:\.?\/+)+/, ""));
  }

  addFile(path: ByteString, attributes: Attributes, size: number, chunks: readonly ChunkRef[]): void {
    this.#place(path, { kind: "file", attributes, size, chunks });
  }

  addDirectory(path: ByteString, attributes: Attributes): void {
    const names = pathNames(path);
    const name = names.pop();
    if (name === undefined) {
      this.#root = { ...directory(attributes), entries: this.#root.entries };
      return;
    }
    const parent = this.#parent(names, path);
    const known = parent.entries.get(name);
    const entries = known?.kind === "directory" ? known.entries : new Map<ByteString, Node>();
    this.#count(path);
    parent.entries.set(name, { ...directory(attributes), entries });
  }

  addSymlink(path: ByteString, attributes: Attributes, target: ByteString): void {
    if (target === "" || target.length > MAX_PATH || target.includes("\0"))
      throw unusable(path, `its link target of ${target.length} bytes cannot be one`);
    this.#place(path, { kind: "symlink", attributes, target });
  }

  addDevice(path: ByteString, attributes: Attributes, device: DeviceNumber): void {
    // Linux holds 12 bits of major and 20 of minor number.
    if (!(device.major >= 0 && device.major < 2 ** 12 && device.minor >= 0 && device.minor < 2 ** 20))
      throw unusable(path, `device ${device.major}:${device.minor} does not exist in Linux`);
    this.#place(path, { attributes, ...device });
  }

  addFifo(path: ByteString, attributes: Attributes): void {
    this.#place(path, { kind: "fifo", attributes });
  }

  addHardlink(path: ByteString, target: ByteString): void {
    const names = pathNames(target);
    const name = names.pop();
    const node = name === undefined ? this.#root : this.#find(names, target)?.entries.get(name);
    if (node === undefined)
      throw unusable(path, `it is a hard link to "${shownPath(target)}", which its layer does not have`);
    if (node.kind === "directory")
      throw unusable(path, `it is a hard link to "${shownPath(target)}", a directory`);
    this.#place(path, node);
  }

  #place(path: ByteString, node: Exclude<Node, Directory>): void {
    const names = pathNames(path);
    const name = names.pop();
    if (name === undefined) throw unusable(path, `the root is a directory, not a ${node.kind}`);
    this.#count(path);
    this.#parent(names, path).entries.set(name, node);
  }

  /** Nodes ever made; a hostile layer is mostly headers, which compress to nothing. */
  #count(path: ByteString): void {
    if (++this.#nodes > MAX_NODES) throw unusable(path, `its layer has more than ${MAX_NODES} entries`);
  }

  #parent(names: readonly ByteString[], path: ByteString): Directory {
    const found = this.#walk(names, path, true);
    if (found === undefined) throw unusable(path, "its parent cannot be made");
    return found;
  }

  #find(names: readonly ByteString[], path: ByteString): Directory | undefined {
    return this.#walk(names, path, false);
  }

  /** The directory at `names`, through symbolic links; what is missing is made if `make`. */
  #walk(names: readonly ByteString[], path: ByteString, make: boolean): Directory | undefined {
    let trail: Directory[] = [this.#root];
    const ahead = [...names].reverse();
    let links = 0;
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      const here = trail.at(-1) ?? this.#root;
      if (name === "" || name === ".") continue;
      if (name === "..") {
        // Of link targets only: in the root it leads nowhere, as in chroot(2).
        if (trail.length > 1) trail.pop();
        continue;
      }
      const next = here.entries.get(name);
      if (next?.kind === "directory") trail.push(next);
      else if (next?.kind === "symlink") {
        if (++links > MAX_LINKS) throw unusable(path, "it leads through too many symbolic links");
        if (next.target.startsWith("/")) trail = [this.#root];
        ahead.push(...(next.target.split("/").reverse() as ByteString[]));
      } else if (next !== undefined) throw unusable(path, `its parent is a ${next.kind}`);
      else if (!make) return undefined;
      else {
        this.#count(path);
        const made = directory();
        here.entries.set(name, made);
        trail.push(made);
      }
    }
    return trail.at(-1);
  }
}

export interface DeviceNumber {
  readonly kind: "char" | "block";
  readonly major: number;
  readonly minor: number;
}

function unusable(path: ByteString, state: string): NydusError {
  return corrupt(`Cannot use path "${shownPath(path)}": ${state}`);
}
