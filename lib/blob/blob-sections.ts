/**
 * Writes the sections of a blob file behind each other, each followed by its tar header, and keeps the table of
 * contents that ends the file.
 *
 * @module
 */
import { type Compressor, compressChunk } from "../base/compression.ts";
import { type Digest, digestFromHex, sha256 } from "../base/digest.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { Cipher } from "../rafs/chunk-map.ts";
import type { ChunkRef } from "../tree/tree.ts";
import { encrypted } from "./cipher.ts";
import {
  type ChunkInfoHeader,
  chunkInfoFile,
  encodeChunkInfoHeader,
  HEADER_SIZE,
} from "./compression-info.ts";
import { CHUNK_INFO_HEADER, encodeFrame, SECTION } from "./framing.ts";
import type { HashedFile } from "./hashed-file.ts";
import { encodeToc, type TocEntry } from "./toc.ts";

const DIGEST_SIZE = 32;

/** Compression information that is to be written. */
export interface ChunkInfoSection {
  /** `BLOB_FEATURES` for its header. */
  readonly features: number;
  readonly count: number;
  /** Entries, and units behind them. */
  readonly array: Uint8Array;
  /** Of the units, if there are any. */
  readonly contexts?: Pick<ChunkInfoHeader, "contextOffset" | "contextSize" | "contexts">;
}

/** What the blob table says about the compression information. */
type ChunkInfoPlace = Pick<BlobInfo, "ciCompressor" | "ciOffset" | "ciCompressedSize" | "ciUncompressedSize">;

export class BlobSections {
  readonly #file: HashedFile;
  readonly #cipher: Cipher | undefined;
  readonly #toc: TocEntry[] = [];

  /** @param cipher of the compression information; the chunks are there already */
  constructor(file: HashedFile, cipher?: Cipher) {
    this.#file = file;
    this.#cipher = cipher;
  }

  /** Bytes written so far. */
  get size(): number {
    return this.#file.size;
  }

  /** Ends the chunk data, which is in the file already and all that is in it. */
  data(uncompressedSize: number): void {
    const compressedSize = this.#file.size;
    this.#file.write(encodeFrame(SECTION.data, compressedSize));
    this.#toc.push({
      name: SECTION.data,
      compressor: "none",
      // The reference takes this digest after the header was written; readers expect it so.
      digest: this.#file.digest(),
      offset: 0,
      compressedSize,
      uncompressedSize,
    });
  }

  /**
   * The table of contents describes it as it is before encryption.
   *
   * @param compressor that of the chunks
   * @returns where it is, and the form it has in bootstrap layers
   */
  chunkInfo(
    { array, contexts, count, features }: ChunkInfoSection,
    compressor: Compressor,
  ): { place: ChunkInfoPlace; file: Uint8Array } {
    // No extractor of tables of contents knows lz4 or gzip, and the chunks' compressor need not be used here.
    const wanted: TocEntry["compressor"] = compressor === "none" ? "none" : "zstd";
    const smaller = compressChunk(wanted, array);
    const stored = encrypted(this.#cipher, smaller ?? array);
    const used: TocEntry["compressor"] = smaller === undefined ? "none" : wanted;
    const offset = this.#file.size;
    const sizes = { compressedSize: stored.byteLength, uncompressedSize: array.byteLength };
    const header = encodeChunkInfoHeader({
      features,
      compressor: used,
      entries: count,
      offset,
      ...sizes,
      ...contexts,
    });
    this.#file.write(stored);
    this.#file.write(encrypted(this.#cipher, header));
    this.#file.write(encodeFrame(SECTION.chunkInfo, stored.byteLength + HEADER_SIZE));
    this.#list(SECTION.chunkInfo, offset, array, { compressor: used, size: stored.byteLength });
    this.#list(CHUNK_INFO_HEADER, offset + stored.byteLength, header);
    const place = {
      ciCompressor: used,
      ciOffset: offset,
      ciCompressedSize: stored.byteLength,
      ciUncompressedSize: array.byteLength,
    };
    return { place, file: chunkInfoFile(array, header) };
  }

  digests(chunks: readonly ChunkRef[]): void {
    const digests = new Uint8Array(chunks.length * DIGEST_SIZE);
    for (const [index, chunk] of chunks.entries()) digests.set(chunk.digest, index * DIGEST_SIZE);
    this.#list(SECTION.digests, this.#file.size, digests);
    this.#file.write(digests);
    this.#file.write(encodeFrame(SECTION.digests, digests.byteLength));
  }

  bootstrap(bootstrap: Uint8Array): void {
    const smaller = compressChunk("zstd", bootstrap);
    const stored = smaller ?? bootstrap;
    const form = { compressor: smaller === undefined ? "none" : "zstd", size: stored.byteLength } as const;
    this.#list(SECTION.bootstrap, this.#file.size, bootstrap, form);
    this.#file.write(stored);
    this.#file.write(encodeFrame(SECTION.bootstrap, stored.byteLength));
  }

  /** Writes the table of contents. @returns digest and size of the whole file */
  finish(): { digest: Digest; size: number } {
    const table = encodeToc(this.#toc);
    this.#file.write(table);
    this.#file.write(encodeFrame(SECTION.toc, table.byteLength));
    const hex = Buffer.from(this.#file.digest()).toString("hex");
    return { digest: digestFromHex(hex), size: this.#file.size };
  }

  #list(
    name: string,
    offset: number,
    content: Uint8Array,
    stored: { compressor: TocEntry["compressor"]; size: number } = {
      compressor: "none",
      size: content.byteLength,
    },
  ): void {
    const { compressor, size: compressedSize } = stored;
    const uncompressedSize = content.byteLength;
    this.#toc.push({ name, compressor, digest: sha256(content), offset, compressedSize, uncompressedSize });
  }
}
