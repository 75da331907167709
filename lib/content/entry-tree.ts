/**
 * Archive entries become the tree of a layer. Where their data goes is the caller's part.
 *
 * @module
 */
import type { TarEntry, TarHeader } from "../tar/entry.ts";
import { LayerTreeBuilder } from "../tree/layer-tree.ts";
import type { Attributes, ChunkRef, Directory } from "../tree/tree.ts";

/** Reads the entry's body to its end, when it has one. */
export type StoreData<Entry extends TarHeader = TarEntry> = (entry: Entry) => Promise<readonly ChunkRef[]>;

/** One for all: trees move between threads, and most nodes have none. */
const NO_XATTRS: Attributes["xattrs"] = new Map();

export class EntryTree<Entry extends TarHeader = TarEntry> {
  readonly #builder = new LayerTreeBuilder();
  readonly #store: StoreData<Entry>;

  /** @param store is asked for each file that the tree takes */
  constructor(store: StoreData<Entry>) {
    this.#store = store;
  }

  /** The tree so far: complete when the last entry was added. */
  get root(): Directory {
    return this.#builder.root;
  }

  async add(entry: Entry): Promise<void> {
    const { path } = entry;
    if (this.#builder.ignores(path)) return;
    const { mode, uid, gid, mtime, mtimeNs } = entry;
    const xattrs = entry.xattrs.size === 0 ? NO_XATTRS : entry.xattrs;
    const attributes = { mode, uid, gid, mtime, mtimeNs, xattrs };
    switch (entry.kind) {
      case "file":
        this.#builder.addFile(path, attributes, entry.size, await this.#store(entry));
        break;
      case "directory":
        this.#builder.addDirectory(path, attributes);
        break;
      case "symlink":
        this.#builder.addSymlink(path, attributes, entry.linkTarget);
        break;
      case "hardlink":
        this.#builder.addHardlink(path, entry.linkTarget);
        break;
      case "fifo":
        this.#builder.addFifo(path, attributes);
        break;
      default:
        this.#builder.addDevice(path, attributes, {
          kind: entry.kind,
          major: entry.major,
          minor: entry.minor,
        });
    }
  }
}
