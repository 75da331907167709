/**
 * A v5 bootstrap back into a file tree, chunks and all. For bootstraps that `checkV5` has passed: others give a
 * `corrupt` error too, but a hostile one may take its time.
 *
 * @module
 */
import { type BlobRef, type ChunkRef, type Directory, directory, type Node } from "../../tree/tree.ts";
import { MAX_CHUNKS } from "../blob-table.ts";
import { chunkRecord } from "../chunk-record.ts";
import { CHUNK_FLAGS } from "../flags.ts";
import type { Kind } from "../inode.ts";
import { unreadable } from "../superblock-reader.ts";
import { attributesOf, leafOf } from "../tree-nodes.ts";
import { MAX_DEPTH } from "../tree-reader.ts";
import type { V5Bootstrap } from "./bootstrap.ts";
import type { RawInode } from "./inode-reader.ts";
import { localOffset } from "./local-space.ts";

/** What the chunks' uncompressed offsets are to be: as stored, or in the local address space (`local-space.ts`). */
export type ChunkAddresses = "stored" | "local";

/** @throws corrupt */
export function readTree(image: V5Bootstrap, addresses: ChunkAddresses = "stored"): Directory {
  return new TreeReader(image, addresses).directory(image.raw(image.rootNid), 0);
}

class TreeReader {
  readonly #image: V5Bootstrap;
  readonly #local: boolean;
  readonly #blobs: readonly BlobRef[];
  /** By blob and index. */
  readonly #chunks = new Map<number, ChunkRef>();
  /** Nodes that may have several names, by inode number. */
  readonly #nodes = new Map<number, Node>();

  constructor(image: V5Bootstrap, addresses: ChunkAddresses) {
    this.#image = image;
    this.#local = addresses === "local";
    this.#blobs = image.blobs.map(({ id }) => ({ id }));
  }

  directory({ number, childIndex, childCount }: RawInode, depth: number): Directory {
    if (depth > MAX_DEPTH || (childCount > 0 && childIndex <= number))
      throw unreadable(`directory ${number} is reached in a circle`);
    const dir = directory(attributesOf(this.#image, number));
    for (let child = childIndex; child < childIndex + childCount; child++) {
      const raw = this.#image.raw(child);
      const node = raw.kind === "directory" ? this.directory(raw, depth + 1) : this.#node(raw, raw.kind);
      dir.entries.set(this.#image.name(raw), node);
    }
    return dir;
  }

  #node(inode: RawInode, kind: Exclude<Kind, "directory">): Node {
    const ino = this.#image.ino(inode);
    const known = this.#nodes.get(ino);
    if (known !== undefined) return known;
    const node = leafOf(this.#image, ino, kind, () => this.#fileChunks(this.#image.raw(ino)));
    this.#nodes.set(ino, node);
    return node;
  }

  #fileChunks({ chunks: { offset, size } }: RawInode): ChunkRef[] {
    const chunks: ChunkRef[] = [];
    for (let at = offset; at < offset + size; at += chunkRecord.size) chunks.push(this.#chunk(at));
    return chunks;
  }

  #chunk(at: number): ChunkRef {
    const record = chunkRecord.read(this.#image.view, at);
    const blob = this.#blobs[record.blob];
    if (blob === undefined) throw unreadable(`the chunk record at ${at} names no blob`);
    const key = record.blob * MAX_CHUNKS + record.index;
    const known = this.#chunks.get(key);
    if (known !== undefined) return known;
    const { index, uncompressedOffset, compressedOffset, compressedSize, uncompressedSize, digest } = record;
    const chunk: ChunkRef = {
      blob,
      index,
      compressedOffset,
      compressedSize,
      uncompressedOffset: this.#local ? localOffset(uncompressedOffset, index) : uncompressedOffset,
      uncompressedSize,
      compressed: (record.flags & CHUNK_FLAGS.compressed) !== 0,
      digest,
      crc: (record.flags & CHUNK_FLAGS.hasCrc) !== 0 ? record.crc : 0,
    };
    this.#chunks.set(key, chunk);
    return chunk;
  }
}
