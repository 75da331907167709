/**
 * First half of writing a bootstrap: numbers every node and finds its place. Offsets are relative to the metadata base.
 *
 * @module
 */
import { type ByteString, byteStringOf, printable } from "../base/byte-string.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { type BlobRef, type Directory, type Node, type RegularFile, sortedEntries } from "../tree/tree.ts";
import { Allocator } from "./allocator.ts";
import { dirent, MAX_NAME } from "./dirent.ts";
import { chunkIndex, extendedInode, LAYOUT, NID_UNIT } from "./inode.ts";
import { storableXattrs, type Xattrs, xattrsSize } from "./xattr.ts";

/** A node with its place. */
export interface Planned {
  readonly node: Node;
  readonly xattrs: Xattrs;
  /** Sequence number of the first name. */
  readonly ino: number;
  /** Inode with xattrs. */
  readonly headSize: number;
  /** Bytes of data: of files their own, of directories and links what is stored here. */
  readonly size: number;
  readonly layout: number;
  at: number;
  dataAt: number;
  nlink: number;
}

export interface PlannedDirectory extends Planned {
  readonly node: Directory;
  readonly entries: [name: ByteString, target: Planned][];
}

export interface Layout {
  readonly root: PlannedDirectory;
  /** Each node once. */
  readonly nodes: readonly Planned[];
  /** Regular files in the order of their names, with repetitions: root's first, then each directory's in turn. */
  readonly files: readonly RegularFile[];
  /** In the order in which files refer to them. */
  readonly blobs: readonly BlobRef[];
  /** Names, the root among them. */
  readonly names: number;
  /** Where the inode area ends. */
  readonly end: number;
}

const DOT = byteStringOf(".");
const DOT_DOT = byteStringOf("..");

export function nidOf(planned: Planned): number {
  return planned.at / NID_UNIT;
}

export function isPlannedDirectory(planned: Planned): planned is PlannedDirectory {
  return planned.node.kind === "directory";
}

export interface LayoutOptions {
  /** Bytes. */
  readonly chunkSize: number;
  /** Bytes: of directories, and what inline data may not cross. */
  readonly blockSize: number;
}

export function planLayout(root: Directory, options: LayoutOptions): Layout {
  return new Planner(options).plan(root);
}

class Planner {
  readonly #chunkSize: number;
  readonly #blockSize: number;
  readonly #space: Allocator;
  readonly #nodes: Planned[] = [];
  readonly #byNode = new Map<Node, Planned>();
  readonly #files: RegularFile[] = [];
  readonly #blobs = new Set<BlobRef>();
  #names = 0;

  constructor({ chunkSize, blockSize }: LayoutOptions) {
    this.#chunkSize = chunkSize;
    this.#blockSize = blockSize;
    this.#space = new Allocator(blockSize);
  }

  plan(tree: Directory): Layout {
    const root = this.#directory(tree);
    this.#visit(root, root);
    return {
      root,
      nodes: this.#nodes,
      files: this.#files,
      blobs: [...this.#blobs],
      names: this.#names,
      end: this.#space.end,
    };
  }

  /** The directory's own place, then its files' places, then its directories with all that is in them. */
  #visit(dir: PlannedDirectory, parent: PlannedDirectory): void {
    this.#placeData(dir);
    dir.entries.push([DOT, dir], [DOT_DOT, parent]);
    const directories: PlannedDirectory[] = [];
    for (const [name, node] of sortedEntries(dir.node)) {
      assertName(name);
      const child = node.kind === "directory" ? this.#directory(node) : this.#child(node);
      dir.entries.push([name, child]);
      if (isPlannedDirectory(child)) directories.push(child);
    }
    dir.nlink += directories.length;
    // Taking pairs apart by pattern would cost more than the comparing.
    dir.entries.sort((a, b) => (a[0] < b[0] ? -1 : 1));
    for (const child of directories) this.#visit(child, dir);
  }

  #directory(node: Directory): PlannedDirectory {
    if (this.#byNode.has(node)) throw new NydusError("internal", "Cannot lay out a directory with two names");
    const planned = {
      ...this.#numbered(node, directorySize(node, this.#blockSize)),
      node,
      entries: [],
      nlink: 2,
    };
    return this.#remember(planned);
  }

  /** One more name of a file; a new file gets its place at once. */
  #child(node: Exclude<Node, Directory>): Planned {
    if (node.kind === "file") this.#files.push(node);
    const known = this.#byNode.get(node);
    if (known !== undefined) {
      known.nlink++;
      this.#names++;
      return known;
    }
    const size = node.kind === "file" ? node.size : node.kind === "symlink" ? node.target.length : 0;
    const planned = this.#remember(this.#numbered(node, size));
    if (node.kind === "file") this.#placeFile(planned, node);
    else if (node.kind === "symlink") this.#placeData(planned);
    else planned.at = this.#space.special(planned.headSize).at;
    return planned;
  }

  #remember<P extends Planned>(planned: P): P {
    this.#nodes.push(planned);
    this.#byNode.set(planned.node, planned);
    return planned;
  }

  #numbered(node: Node, size: number): Planned {
    const xattrs = storableXattrs(node.attributes.xattrs);
    const headSize = extendedInode.size + xattrsSize(xattrs);
    const ino = ++this.#names;
    return {
      node,
      xattrs,
      ino,
      headSize,
      size,
      layout: layoutFor(node, headSize, size, this.#blockSize),
      at: 0,
      dataAt: 0,
      nlink: 1,
    };
  }

  #placeData(planned: Planned): void {
    const { headSize, size, layout } = planned;
    const place =
      layout === LAYOUT.inline ? this.#space.inline(headSize, size) : this.#space.plain(headSize, size);
    planned.at = place.at;
    planned.dataAt = place.dataAt;
  }

  #placeFile(planned: Planned, file: RegularFile): void {
    if (file.chunks.length !== Math.ceil(file.size / this.#chunkSize))
      throw new NydusError(
        "internal",
        `Cannot lay out a file of ${file.size} bytes in ${file.chunks.length} chunks`,
      );
    for (const { blob } of file.chunks) this.#blobs.add(blob);
    const indexes = alignUp(planned.headSize, 8) + chunkIndex.size * file.chunks.length;
    planned.at = this.#space.file(indexes).at;
  }
}

function assertName(name: ByteString): void {
  if (name === DOT || name === DOT_DOT || name === "" || name.length > MAX_NAME || /[/\0]/.test(name))
    throw corrupt(`Cannot store the name "${printable(name).slice(0, 300)}": no file can have it`);
}

function layoutFor(node: Node, headSize: number, size: number, blockSize: number): number {
  if (node.kind === "file") return LAYOUT.chunked;
  // The reference expects a link longer than a block all behind its inode, the kernel does not: see `tarfs-links.ts`.
  if (node.kind === "symlink" && size > blockSize) return LAYOUT.plain;
  const tail = size % blockSize;
  return tail !== 0 && headSize + tail <= blockSize ? LAYOUT.inline : LAYOUT.plain;
}

/** Entries and names of one block never spill over into the next. */
function directorySize(dir: Directory, blockSize: number): number {
  const names = [...dir.entries.keys(), DOT, DOT_DOT].sort((a, b) => (a < b ? -1 : 1));
  let blocks = 0;
  let used = 0;
  for (const name of names) {
    const cost = dirent.size + name.length;
    if (used + cost > blockSize) {
      blocks++;
      used = 0;
    }
    used += cost;
  }
  return blocks * blockSize + used;
}
