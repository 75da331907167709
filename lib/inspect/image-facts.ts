/**
 * What a bootstrap says of itself: superblock, tables, blobs, and what it wants fetched first.
 *
 * @module
 */
import { printable } from "../base/byte-string.ts";
import type { Compressor } from "../base/compression.ts";
import type { ChunkDigester } from "../base/digest.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { BLOB_FEATURES, SUPERBLOCK_FLAGS } from "../rafs/flags.ts";
import type { RafsImage } from "../rafs/image.ts";
import type { Region } from "../rafs/superblock.ts";
import type { V5Blob } from "../rafs/v5/blob-table.ts";
import { entriesOf } from "./entries.ts";

export interface ImageFacts {
  /** Of RAFS. */
  readonly version: 5 | 6;
  /** Bytes of the bootstrap. */
  readonly size: number;
  /** Bytes. */
  readonly chunkSize: number;
  /** What new blobs of this image use; each blob has its own. */
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  /** Names of the superblock's flags. */
  readonly flags: readonly string[];
  /** v6: names, hard links counted each time. v5: hard links counted once. */
  readonly inodes: number;
  /** v6: nid. v5: inode number. */
  readonly root: number;
  /** Where each table lies in the bootstrap, in bytes; without those that are empty. */
  readonly tables: Readonly<Record<string, Region>>;
  readonly blobs: readonly BlobFacts[];
  /** In the order of the table. */
  readonly prefetch: readonly PrefetchFacts[];
}

export interface BlobFacts {
  readonly index: number;
  /** Hex digest of the stored blob. */
  readonly id: string;
  /** In all of the blob, used by this image or not. */
  readonly chunks: number;
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  readonly features: readonly string[];
  /** Bytes as stored. */
  readonly compressedSize: number;
  /** Bytes of the address space that chunks lie in. */
  readonly uncompressedSize: number;
  /** v6: where in one flat address space behind the bootstrap it begins, in bytes. */
  readonly mappedOffset?: number;
  /** v6: the stored table of the blob's chunks. */
  readonly chunkInfo?: {
    readonly compressor: Compressor;
    /** In the stored blob. */
    readonly offset: number;
    readonly compressedSize: number;
    readonly uncompressedSize: number;
  };
  /** v6: of the blob's table of contents, when it is recorded. */
  readonly toc?: { readonly digest: string; readonly size: number };
  /** v6: the blob that holds the metadata, when it is another one. */
  readonly metadataBlob?: { readonly digest: string; readonly size: number };
}

export interface PrefetchFacts {
  readonly nid: number;
  /** The first name of the inode; undefined when no name has it. */
  readonly path?: string;
}

/** @param options.sound the bootstrap has passed its check: only then names are looked up */
export function imageFacts(image: RafsImage, options: { readonly sound: boolean }): ImageFacts {
  const { version, superblock, bytes, rootNid } = image;
  return {
    version,
    size: bytes.byteLength,
    chunkSize: superblock.chunkSize,
    compressor: superblock.compressor,
    digester: superblock.digester,
    flags: namesOf(superblock.flags, SUPERBLOCK_FLAGS),
    inodes: superblock.inodes,
    root: rootNid,
    tables: tablesOf(image),
    blobs: blobsOf(image),
    prefetch: prefetchOf(image, options.sound),
  };
}

/** Names of the bits that are set; what has no name is shown as a number. */
function namesOf(bits: number, names: Readonly<Record<string, number>>): string[] {
  const known = Object.entries(names).filter(([, bit]) => (bits & bit) !== 0);
  const rest = known.reduce((left, [, bit]) => left & ~bit, bits) >>> 0;
  return [...known.map(([name]) => name), ...(rest === 0 ? [] : [`0x${rest.toString(16)}`])];
}

function tablesOf({ superblock }: RafsImage): Readonly<Record<string, Region>> {
  const { blobTable: blob, prefetchTable: prefetch } = superblock;
  const others =
    "chunkTable" in superblock
      ? { chunk: superblock.chunkTable }
      : { inode: superblock.inodeTable, extendedBlob: superblock.extendedTable };
  const all: Record<string, Region> = { blob, prefetch, ...others };
  return Object.fromEntries(Object.entries(all).filter(([, { size }]) => size > 0));
}

function blobsOf(image: RafsImage): BlobFacts[] {
  if (image.version === 5) return image.blobs.map((blob, index) => commonFacts(blob, index));
  return image.blobs.map((blob, index) => ({
    ...commonFacts(blob, index),
    mappedOffset: (image.mappedBlocks[index] ?? 0) * 4096,
    ...v6Facts(blob),
  }));
}

function commonFacts(blob: BlobInfo | V5Blob, index: number): BlobFacts {
  const { id, chunkCount, compressor, digester, features, compressedSize } = blob;
  return {
    index,
    id,
    chunks: chunkCount,
    compressor,
    digester,
    features: namesOf(features, BLOB_FEATURES),
    compressedSize,
    uncompressedSize: "packedSize" in blob ? blob.packedSize : blob.uncompressedSize,
  };
}

function v6Facts(blob: BlobInfo): Partial<BlobFacts> {
  const hex = (digest: Uint8Array): string => Buffer.from(digest).toString("hex");
  return {
    chunkInfo: {
      compressor: blob.ciCompressor,
      offset: blob.ciOffset,
      compressedSize: blob.ciCompressedSize,
      uncompressedSize: blob.ciUncompressedSize,
    },
    ...(blob.tocSize === 0 ? {} : { toc: { digest: hex(blob.tocDigest), size: blob.tocSize } }),
    ...(blob.metaSize === 0 ? {} : { metadataBlob: { digest: hex(blob.metaDigest), size: blob.metaSize } }),
  };
}

function prefetchOf(image: RafsImage, sound: boolean): PrefetchFacts[] {
  const { offset, size } = image.superblock.prefetchTable;
  const nids: number[] = [];
  for (let at = offset; at < offset + size; at += 4) {
    const nid = image.view.getUint32(at, true);
    // The reference's readers stop there.
    if (nid === 0) break;
    nids.push(nid);
  }
  const paths = pathsOf(image, new Set(sound ? nids : []));
  return nids.map((nid) => {
    const path = paths.get(nid);
    return { nid, ...(path === undefined ? {} : { path }) };
  });
}

function pathsOf(image: RafsImage, wanted: ReadonlySet<number>): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  if (wanted.size === 0) return found;
  for (const { nid, path } of entriesOf(image)) {
    if (wanted.has(nid) && !found.has(nid)) found.set(nid, printable(path));
    if (found.size === wanted.size) break;
  }
  return found;
}
