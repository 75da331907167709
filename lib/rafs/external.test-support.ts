/**
 * Bootstraps of external files as the reference writes them, for tests: chunks lie in the file as a tar has them.
 *
 * @module
 */
import { createCRC32 } from "hash-wasm";
import { byteStringOf } from "../base/byte-string.ts";
import { digestHex, digestOf } from "../base/digest.ts";
import { viewOf } from "../base/struct.ts";
import type { BlobRef, ChunkRef, Directory } from "../tree/tree.ts";
import { directory } from "../tree/tree.ts";
import { type BlobInfo, blobEntry } from "./blob-table.ts";
import { openBootstrap } from "./bootstrap.ts";
import { chunkRecord, UNKNOWN_DIGEST } from "./chunk-record.ts";
import { deviceSlot, SLOT_TABLE_OFFSET } from "./device-slot.ts";
import { BLOB_FEATURES } from "./flags.ts";
import { chunkIndex } from "./inode.ts";
import { chunkIndexes } from "./inode-reader.ts";
import { leaves } from "./leaves.ts";
import { attributes, CHUNK_SIZE } from "./sample-tree.test-support.ts";
import { BLOCK_SIZE, SUPERBLOCK_OFFSET, superblock } from "./superblock.ts";
import { writeBootstrap } from "./writer.ts";

export interface ExternalSample {
  readonly bootstrap: Uint8Array;
  /** All of the external file. */
  readonly data: Uint8Array;
  /** What the bootstrap calls it. */
  readonly id: string;
}

export interface ExternalOptions {
  /** CRC-32C of each chunk. Default true. */
  readonly checksums?: boolean;
  /** Default: the file's digest. */
  readonly id?: string;
}

/** @param files by path in the root directory */
export async function externalSample(
  files: ReadonlyMap<string, Uint8Array>,
  { checksums = true, id }: ExternalOptions = {},
): Promise<ExternalSample> {
  const crc = await createCRC32(0x82f6_3b78);
  const data = Buffer.concat([...files.values()].flatMap((file) => [Buffer.alloc(512), padded(file)]));
  const blob: BlobRef = { id: id ?? digestHex(digestOf(data)) };
  const root = directory(attributes({ mode: 0o755 }));
  const offsets: number[] = [];
  let at = 0;
  for (const [name, file] of files) {
    const start = at + 512;
    const chunks: ChunkRef[] = [];
    for (let from = 0; from < file.byteLength; from += CHUNK_SIZE) {
      const part = file.subarray(from, from + CHUNK_SIZE);
      const index = offsets.push(start + from) - 1;
      const sum = checksums ? Number.parseInt(crc.init().update(part).digest("hex"), 16) : 0;
      chunks.push(chunkOf(blob, index, part.byteLength, sum));
    }
    root.entries.set(byteStringOf(name), {
      kind: "file",
      attributes: attributes(),
      size: file.byteLength,
      chunks,
    });
    at = start + padded(file).byteLength;
  }
  return { bootstrap: unaligned(root, blob, offsets, data.byteLength), data, id: blob.id };
}

function padded(file: Uint8Array): Uint8Array {
  return Buffer.concat([file, Buffer.alloc((512 - (file.byteLength % 512)) % 512)]);
}

function chunkOf(blob: BlobRef, index: number, size: number, crc: number): ChunkRef {
  const place = { compressedOffset: 0, compressedSize: size, uncompressedSize: size };
  const uncompressedOffset = index * CHUNK_SIZE;
  return { blob, index, ...place, uncompressedOffset, compressed: false, digest: UNKNOWN_DIGEST, crc };
}

/** Our writer knows aligned chunks only: what tells of their places is written over. */
function unaligned(root: Directory, blob: BlobRef, offsets: readonly number[], size: number): Uint8Array {
  const features = BLOB_FEATURES.external | BLOB_FEATURES.aligned | BLOB_FEATURES.capTarToc;
  const info: BlobInfo = {
    id: blob.id,
    index: 0,
    chunkCount: offsets.length,
    compressor: "none",
    digester: "sha256",
    features,
    compressedSize: size,
    uncompressedSize: offsets.length * CHUNK_SIZE,
    tocSize: 0,
    tocDigest: new Uint8Array(32),
    ciCompressor: "lz4_block",
    ciOffset: 0,
    ciCompressedSize: 0,
    ciUncompressedSize: 0,
    metaDigest: new Uint8Array(32),
    metaSize: 0,
  };
  const format = { chunkSize: CHUNK_SIZE, compressor: "zstd", digester: "sha256" } as const;
  const bytes = writeBootstrap(root, { ...format, blobs: () => info, prefetch: [] });
  const image = openBootstrap(bytes);
  const view = viewOf(bytes);
  const { chunkTable, blobTable } = image.superblock;
  for (let at = chunkTable.offset; at < chunkTable.offset + chunkTable.size; at += chunkRecord.size) {
    const offset = offsets[chunkRecord.fields.index.read(view, at)] ?? 0;
    chunkRecord.fields.compressedOffset.write(view, at, offset);
    chunkRecord.fields.uncompressedOffset.write(view, at, offset);
  }
  for (const inode of leaves(image)) {
    const indexes = chunkIndexes(view, inode, CHUNK_SIZE);
    for (let at = indexes.offset; at < indexes.offset + indexes.size; at += chunkIndex.size) {
      const offset = offsets[chunkIndex.fields.ordinalLow.read(view, at)] ?? 0;
      chunkIndex.fields.block.write(view, at, Math.floor(offset / BLOCK_SIZE));
    }
  }
  const blocks = Math.floor(size / BLOCK_SIZE);
  blobEntry.fields.features.write(view, blobTable.offset, features & ~BLOB_FEATURES.aligned);
  blobEntry.fields.uncompressedSize.write(view, blobTable.offset, size);
  deviceSlot.fields.blocks.write(view, SLOT_TABLE_OFFSET, blocks);
  superblock.fields.blocks.write(view, SUPERBLOCK_OFFSET, blocks);
  return bytes;
}
