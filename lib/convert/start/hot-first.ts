/**
 * Lays what a start reads first in the blob of its layer. Layers are packed as they arrive, in the order of their tars;
 * which files a start needs is known only when all are there. Then blobs whose order would cost requests are written
 * anew, out of the page cache: chunks are copied as they are stored, nothing is compressed again.
 *
 * @module
 */
import { closeSync, openSync, readSync, renameSync } from "node:fs";
import type { ChunkHasher } from "../../base/digest.ts";
import { BlobWriter } from "../../blob/blob-writer.ts";
import { BLOB_FEATURES } from "../../rafs/flags.ts";
import { writeBootstrap } from "../../rafs/writer.ts";
import type { ChunkRef, Directory } from "../../tree/tree.ts";
import type { MergeOptions } from "../merge.ts";
import type { PackedContent } from "../packer.ts";

/** Stored bytes between two chunks that a node fetches along rather than ask twice. */
const GAP = 32 << 10;
/** Places in a blob that are no worse than one. */
const FEW_PLACES = 3;
const WINDOW = 4 << 20;

/** Blobs that hold more than chunks each by itself keep the order of their tar. */
const FIXED = BLOB_FEATURES.batch | BLOB_FEATURES.encrypted | BLOB_FEATURES.separate;

/** Whether the layer might have to be written anew; others can be sent before anything is known of the start. */
export function isMovable({ file: { info }, tree }: PackedContent): boolean {
  if (info === undefined || (info.features & FIXED) !== 0 || info.chunkCount <= FEW_PLACES) return false;
  return holdsPrograms(tree);
}

/** Layers of data alone are often the largest. */
function holdsPrograms(dir: Directory): boolean {
  for (const [name, node] of dir.entries) {
    if (node.kind === "directory" && holdsPrograms(node)) return true;
    if (node.kind === "file" && ((node.attributes.mode & 0o111) !== 0 || /\.(?:so|py)(?:\.|$)/.test(name)))
      return true;
  }
  return false;
}

/** Whether the chunks lie in so many places that a node would need several requests for them. */
export function isScattered({ blob }: PackedContent, hot: readonly ChunkRef[]): boolean {
  const own = hot.filter((chunk) => chunk.blob === blob);
  const sorted = own.toSorted((a, b) => a.compressedOffset - b.compressedOffset);
  let places = 0;
  let end = Number.NEGATIVE_INFINITY;
  for (const { compressedOffset, compressedSize } of sorted) {
    if (compressedOffset - end > GAP) places++;
    end = compressedOffset + compressedSize;
  }
  return places > FEW_PLACES;
}

/**
 * Writes the layer's blob anew, the hot chunks first and in their order, in place of the old file. The chunks of its tree
 * are changed to what they became.
 */
export async function layHotFirst<L extends PackedContent>(
  layer: L,
  hot: readonly ChunkRef[],
  { compressor, digester, chunkSize, dictionary }: MergeOptions,
  hasher: ChunkHasher,
): Promise<L> {
  const { blob, file, tree } = layer;
  const path = `${file.path}.hot-first`;
  using writer = new BlobWriter(path, { compressor, hasher });
  const order = [...new Set([...hot.filter((chunk) => chunk.blob === blob), ...chunksOf(tree, layer)])];
  const moves: { readonly chunk: Mutable<ChunkRef>; readonly to: ChunkRef }[] = [];
  using source = new StoredBytes(file.path);
  for (const chunk of order) {
    const stored = source.read(chunk.compressedOffset, chunk.compressedSize);
    moves.push({ chunk, to: writer.copy(chunk, stored) });
  }
  // The tree's own objects: it is merged with the others by what they refer to.
  for (const { chunk, to } of moves) Object.assign(chunk, to, { blob });
  const made = await writer.finish((info) =>
    writeBootstrap(tree, {
      chunkSize,
      compressor,
      digester,
      blobs: (ref) => (ref === blob ? info : dictionary?.info(ref)),
    }),
  );
  blob.id = writer.blob.id;
  renameSync(path, file.path);
  return { ...layer, file: { ...made, path: file.path } };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The layer's own chunks in the order in which they are stored. */
function chunksOf(tree: Directory, { blob }: PackedContent): ChunkRef[] {
  const found = new Set<ChunkRef>();
  const visit = (dir: Directory): void => {
    for (const node of dir.entries.values()) {
      if (node.kind === "directory") visit(node);
      else if (node.kind === "file")
        for (const chunk of node.chunks) if (chunk.blob === blob) found.add(chunk);
    }
  };
  visit(tree);
  return [...found].sort((a, b) => a.index - b.index);
}

/** Reads a file in large pieces, since most of what is wanted lies side by side. */
class StoredBytes implements Disposable {
  readonly #fd: number;
  readonly #window = Buffer.allocUnsafe(WINDOW);
  #start = 0;
  #end = 0;

  constructor(path: string) {
    this.#fd = openSync(path, "r");
  }

  /** Valid until the next call. */
  read(offset: number, size: number): Uint8Array {
    if (size > WINDOW) return this.#fill(Buffer.allocUnsafe(size), offset, size);
    if (offset < this.#start || offset + size > this.#end) {
      this.#start = offset;
      this.#end = offset + readSync(this.#fd, this.#window, 0, WINDOW, offset);
    }
    if (offset + size > this.#end) throw new RangeError("Cannot copy a chunk: the blob file is shorter");
    return this.#window.subarray(offset - this.#start, offset - this.#start + size);
  }

  #fill(into: Buffer, offset: number, size: number): Uint8Array {
    for (let done = 0; done < size; ) {
      const count = readSync(this.#fd, into, done, size - done, offset + done);
      if (count === 0) throw new RangeError("Cannot copy a chunk: the blob file is shorter");
      done += count;
    }
    return into;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
