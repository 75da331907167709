/**
 * The neutral file tree: what a layer holds, what layers merged look like, and what a bootstrap describes. Formats
 * (tar, RAFS, a directory) convert to and from it.
 *
 * Names, link targets and xattr keys are byte strings (one character a byte). A hard link is one `RegularFile` object
 * under several names; the same holds for other non-directories.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";

export interface Attributes {
  /** Permission bits with setuid, setgid and sticky: 0o0000 to 0o7777. The type is the node's `kind`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds since 1970; negative before. */
  readonly mtime: number;
  readonly mtimeNs: number;
  /** Full keys ("user.comment", "security.capability"); values are bytes. */
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
}

/** Attributes that a directory gets which no layer mentions: 0755, root, time 0. */
export const IMPLICIT_DIRECTORY: Attributes = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  mtimeNs: 0,
  xattrs: new Map(),
};

/** A data blob as files refer to it. Identity matters: two chunks are in the same blob if they hold the same object. */
export interface BlobRef {
  /** Hex SHA-256 of the blob, or a placeholder while it is not known. */
  id: string;
}

/** One chunk of a file: where it lies stored (compressed) and in the blob's uncompressed address space. */
export interface ChunkRef {
  readonly blob: BlobRef;
  /** Ordinal in the blob: its entry in the compression information array. */
  readonly index: number;
  readonly compressedOffset: number;
  readonly compressedSize: number;
  /** Multiple of 4096, except in RAFS v5, which packs chunks. */
  readonly uncompressedOffset: number;
  readonly uncompressedSize: number;
  /** Whether the stored form is compressed. */
  readonly compressed: boolean;
  /** 32 bytes, of the uncompressed chunk, by the image's digester. */
  readonly digest: Uint8Array;
  /** CRC-32C of the uncompressed chunk; 0 = absent. */
  readonly crc: number;
}

export interface Directory {
  readonly kind: "directory";
  readonly attributes: Attributes;
  /** No entry of its layer mentions it: over a directory of a lower layer its attributes do not count. */
  readonly implicit?: boolean;
  readonly entries: Map<ByteString, Node>;
}

export interface RegularFile {
  readonly kind: "file";
  readonly attributes: Attributes;
  readonly size: number;
  /** ceil(size / chunkSize) chunks, in file order. */
  readonly chunks: readonly ChunkRef[];
}

export interface Symlink {
  readonly kind: "symlink";
  readonly attributes: Attributes;
  readonly target: ByteString;
}

export interface Device {
  readonly kind: "char" | "block";
  readonly attributes: Attributes;
  readonly major: number;
  readonly minor: number;
}

export interface Pipe {
  readonly kind: "fifo" | "socket";
  readonly attributes: Attributes;
}

export type Node = Directory | RegularFile | Symlink | Device | Pipe;

/** Without attributes the directory is an implicit one. */
export function directory(attributes?: Attributes): Directory {
  return {
    kind: "directory",
    attributes: attributes ?? IMPLICIT_DIRECTORY,
    implicit: attributes === undefined,
    entries: new Map(),
  };
}

/** Entries in byte order of their names, the order of every format here. */
export function sortedEntries(dir: Directory): [ByteString, Node][] {
  return [...dir.entries].sort((a, b) => (a[0] < b[0] ? -1 : 1));
}
