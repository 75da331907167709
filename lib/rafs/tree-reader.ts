/**
 * A bootstrap back into a file tree, chunks and all. For bootstraps that `checkBootstrap` has passed: others give a
 * `corrupt` error too, but a hostile one may take its time.
 *
 * @module
 */
import { type BlobRef, type ChunkRef, type Directory, directory, type Node } from "../tree/tree.ts";
import type { Bootstrap } from "./bootstrap.ts";
import { chunkRecord, UNKNOWN_DIGEST } from "./chunk-record.ts";
import { BLOB_FEATURES, CHUNK_FLAGS } from "./flags.ts";
import { type FileChunk, fileChunks } from "./indexed-chunks.ts";
import type { Kind } from "./inode.ts";
import { unreadable } from "./superblock-reader.ts";
import { attributesOf, leafOf } from "./tree-nodes.ts";

/** A path of PATH_MAX bytes cannot be deeper. */
export const MAX_DEPTH = 2048;

const R = chunkRecord.fields;

/** @throws corrupt */
export function readTree(bootstrap: Bootstrap): Directory {
  return new TreeReader(bootstrap).directory(bootstrap.rootNid, 0);
}

class TreeReader {
  readonly #bootstrap: Bootstrap;
  readonly #blobs: readonly BlobRef[];
  /** By blob and ordinal. */
  readonly #chunks: Map<number, ChunkRef>;
  /** Nodes that may have several names, by nid. */
  readonly #nodes = new Map<number, Node>();
  readonly #directories = new Set<number>();

  constructor(bootstrap: Bootstrap) {
    this.#bootstrap = bootstrap;
    this.#blobs = bootstrap.blobs.map(({ id }) => ({ id }));
    this.#chunks = bootstrap.superblock.tarfs ? new Map() : readChunks(bootstrap, this.#blobs);
  }

  directory(nid: number, depth: number): Directory {
    if (depth > MAX_DEPTH || this.#directories.has(nid))
      throw unreadable(`directory ${nid} is reached in a circle`);
    this.#directories.add(nid);
    const dir = directory(attributesOf(this.#bootstrap, nid));
    for (const entry of this.#bootstrap.readdir(nid)) {
      if (entry.name === "." || entry.name === "..") continue;
      dir.entries.set(
        entry.name,
        entry.type === "directory" ? this.directory(entry.nid, depth + 1) : this.#node(entry.nid, entry.type),
      );
    }
    return dir;
  }

  #node(nid: number, kind: Exclude<Kind, "directory">): Node {
    const known = this.#nodes.get(nid);
    if (known !== undefined) return known;
    const node = leafOf(this.#bootstrap, nid, kind, () => this.#fileChunks(nid));
    this.#nodes.set(nid, node);
    return node;
  }

  #fileChunks(nid: number): ChunkRef[] {
    const chunks: ChunkRef[] = [];
    for (const named of fileChunks(this.#bootstrap, this.#bootstrap.raw(nid))) {
      const key = chunkKey(named.blob, named.ordinal);
      const chunk = this.#chunks.get(key) ?? this.#untabled(named);
      this.#chunks.set(key, chunk);
      chunks.push(chunk);
    }
    return chunks;
  }

  /** Of a chunk that is not in the chunk table the bootstrap tells neither the digest nor, unless in a tar, the place. */
  #untabled({ blob: position, block, ordinal, length }: FileChunk): ChunkRef {
    const { blockSize, tarfs } = this.#bootstrap.superblock;
    const blob = this.#blobs[position];
    if (blob === undefined) throw unreadable(`a chunk is in blob ${position}, which there is not`);
    const uncompressedOffset = block * blockSize;
    return {
      blob,
      index: ordinal,
      compressedOffset: tarfs ? uncompressedOffset : 0,
      compressedSize: tarfs ? length : 0,
      uncompressedOffset,
      uncompressedSize: length,
      compressed: false,
      digest: UNKNOWN_DIGEST,
      crc: 0,
    };
  }
}

function chunkKey(blob: number, ordinal: number): number {
  return blob * 2 ** 24 + ordinal;
}

function readChunks(bootstrap: Bootstrap, blobs: readonly BlobRef[]): Map<number, ChunkRef> {
  const { view, superblock } = bootstrap;
  const { offset, size } = superblock.chunkTable;
  const chunks = new Map<number, ChunkRef>();
  for (let at = offset; at < offset + size; at += chunkRecord.size) {
    const blobIndex = R.blob.read(view, at);
    const blob = blobs[blobIndex];
    if (blob === undefined) throw unreadable(`the chunk record at ${at} names no blob`);
    const external = ((bootstrap.blobs[blobIndex]?.features ?? 0) & BLOB_FEATURES.external) !== 0;
    const index = R.index.read(view, at);
    const flags = R.flags.read(view, at);
    chunks.set(chunkKey(blobIndex, index), {
      blob,
      index,
      compressedOffset: R.compressedOffset.read(view, at),
      compressedSize: R.compressedSize.read(view, at),
      uncompressedOffset: R.uncompressedOffset.read(view, at),
      uncompressedSize: R.uncompressedSize.read(view, at),
      compressed: (flags & CHUNK_FLAGS.compressed) !== 0,
      digest: external ? UNKNOWN_DIGEST : R.digest.read(view, at),
      crc: (flags & CHUNK_FLAGS.hasCrc) !== 0 ? R.crc.read(view, at) : 0,
    });
  }
  return chunks;
}
