/**
 * A bootstrap back into a file tree, chunks and all. For bootstraps that `checkBootstrap` has passed: others give a
 * `corrupt` error too, but a hostile one may take its time.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { byteString } from "../base/byte-string.ts";
import {
  type Attributes,
  type BlobRef,
  type ChunkRef,
  type Directory,
  directory,
  type Node,
} from "../tree/tree.ts";
import type { Bootstrap } from "./bootstrap.ts";
import { chunkRecord } from "./chunk-record.ts";
import { CHUNK_FLAGS } from "./flags.ts";
import { chunkIndex, decodeDevice, type Kind } from "./inode.ts";
import { chunkIndexes } from "./inode-reader.ts";
import { unreadable } from "./superblock-reader.ts";

/** A path of PATH_MAX bytes cannot be deeper. */
export const MAX_DEPTH = 2048;

const X = chunkIndex.fields;
const R = chunkRecord.fields;

/** @throws corrupt */
export function readTree(bootstrap: Bootstrap): Directory {
  return new TreeReader(bootstrap).directory(bootstrap.rootNid, 0);
}

class TreeReader {
  readonly #bootstrap: Bootstrap;
  readonly #blobs: readonly BlobRef[];
  /** By blob and ordinal. */
  readonly #chunks: ReadonlyMap<number, ChunkRef>;
  /** Nodes that may have several names, by nid. */
  readonly #nodes = new Map<number, Node>();
  readonly #directories = new Set<number>();

  constructor(bootstrap: Bootstrap) {
    this.#bootstrap = bootstrap;
    this.#blobs = bootstrap.blobs.map(({ id }) => ({ id }));
    this.#chunks = readChunks(bootstrap, this.#blobs);
  }

  directory(nid: number, depth: number): Directory {
    if (depth > MAX_DEPTH || this.#directories.has(nid))
      throw unreadable(`directory ${nid} is reached in a circle`);
    this.#directories.add(nid);
    const dir = directory(this.#attributes(nid));
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
    const node = this.#read(nid, kind);
    this.#nodes.set(nid, node);
    return node;
  }

  #read(nid: number, kind: Exclude<Kind, "directory">): Node {
    const attributes = this.#attributes(nid);
    const { size, rdev } = this.#bootstrap.inode(nid);
    switch (kind) {
      case "file":
        return { kind, attributes, size, chunks: this.#fileChunks(nid) };
      case "symlink":
        return { kind, attributes, target: byteString(this.#bootstrap.readlink(nid)) };
      case "char":
      case "block":
        return { kind, attributes, ...decodeDevice(rdev) };
      case "fifo":
      case "socket":
        return { kind, attributes };
    }
  }

  #attributes(nid: number): Attributes {
    const { mode, uid, gid, mtime, mtimeNs } = this.#bootstrap.inode(nid);
    const xattrs: ReadonlyMap<ByteString, Uint8Array> = this.#bootstrap.xattrs(nid);
    return { mode: mode & 0o7777, uid, gid, mtime, mtimeNs, xattrs };
  }

  #fileChunks(nid: number): ChunkRef[] {
    const { view, superblock } = this.#bootstrap;
    const { offset, size } = chunkIndexes(view, this.#bootstrap.raw(nid), superblock.chunkSize);
    const chunks: ChunkRef[] = [];
    for (let at = offset; at < offset + size; at += chunkIndex.size) {
      const device = X.device.read(view, at);
      const ordinal = X.ordinalLow.read(view, at) + (device >> 8) * 0x1_0000;
      const chunk = this.#chunks.get(chunkKey((device & 0xff) - 1, ordinal));
      if (chunk === undefined) throw unreadable(`a chunk of file ${nid} is not in the chunk table`);
      chunks.push(chunk);
    }
    return chunks;
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
      digest: R.digest.read(view, at),
      crc: (flags & CHUNK_FLAGS.hasCrc) !== 0 ? R.crc.read(view, at) : 0,
    });
  }
  return chunks;
}
