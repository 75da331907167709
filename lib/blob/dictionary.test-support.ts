/**
 * Bootstraps that serve as chunk dictionaries, for tests.
 *
 * @module
 */
import { byteStringOf } from "../base/byte-string.ts";
import { sha256 } from "../base/digest.ts";
import { type Bootstrap, openBootstrap } from "../rafs/bootstrap.ts";
import { writeBootstrap } from "../rafs/writer.ts";
import { type BlobRef, type ChunkRef, directory, IMPLICIT_DIRECTORY } from "../tree/tree.ts";
import { NOT_RECORDED } from "./blob-writer.ts";

/** A bootstrap with one blob, of which each word is a chunk. */
export function dictionaryOf(blob: BlobRef, words: readonly string[]): Bootstrap {
  const root = directory(IMPLICIT_DIRECTORY);
  for (const [index, word] of words.entries()) {
    const bytes = Buffer.from(word);
    const size = bytes.byteLength;
    const chunk: ChunkRef = {
      blob,
      index,
      compressedOffset: 10 * index,
      compressedSize: size,
      uncompressedOffset: 4096 * index,
      uncompressedSize: size,
      compressed: false,
      digest: sha256(bytes),
      crc: 0,
    };
    root.entries.set(byteStringOf(word), {
      kind: "file",
      attributes: IMPLICIT_DIRECTORY,
      size,
      chunks: [chunk],
    });
  }
  const ci = 16 * words.length;
  const info = {
    ...NOT_RECORDED,
    id: blob.id,
    index: 0,
    chunkCount: words.length,
    compressor: "zstd",
    digester: "sha256",
    features: 0x7000_0021,
    compressedSize: 100_000,
    uncompressedSize: 4096 * words.length,
    ciCompressor: "none",
    ciOffset: 10_000,
    ciCompressedSize: ci,
    ciUncompressedSize: ci,
  } as const;
  const format = { chunkSize: 2 ** 20, compressor: "zstd", digester: "sha256" } as const;
  return openBootstrap(writeBootstrap(root, { ...format, blobs: () => info }));
}
