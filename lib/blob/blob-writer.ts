/**
 * Writes one layer's blob: chunk data, compression information, chunk digests, the layer's own bootstrap and a table
 * of contents, each followed by its tar header. A layer without file data has only the last two.
 *
 * Chunks get their place in the order they are added, so the same chunks give the same bytes.
 *
 * @module
 */
import { type Compressor, compressChunk } from "../base/compression.ts";
import { type ChunkHasher, type Digest, digestFromHex, sha256 } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { type BlobInfo, MAX_CHUNKS, MAX_COMPRESSED_SIZE, MAX_UNCOMPRESSED_SIZE } from "../rafs/blob-table.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import { ChunkDict } from "./chunk-dict.ts";
import { ChunkQueue } from "./chunk-queue.ts";
import { chunkInfoFile, encodeChunkInfoHeader, encodeChunkInfos, HEADER_SIZE } from "./compression-info.ts";
import { CHUNK_INFO_HEADER, encodeFrame, SECTION } from "./framing.ts";
import { HashedFile } from "./hashed-file.ts";
import { encodeToc, type TocEntry } from "./toc.ts";

const ALIGNMENT = 4096;
const DIGEST_SIZE = 32;
/** Digests of chunks are views of slabs, so that a tree moves between threads in a few large pieces. */
const SLAB_DIGESTS = 2048;

/** What a bootstrap inside a blob calls that blob: its digest is not known yet. */
const PLACEHOLDER_ID = "x".repeat(64);

const FEATURES =
  BLOB_FEATURES.aligned |
  BLOB_FEATURES.inlinedBootstrap |
  BLOB_FEATURES.inlinedDigests |
  BLOB_FEATURES.tarHeaders |
  BLOB_FEATURES.toc |
  BLOB_FEATURES.capTarToc;

export interface BlobWriterOptions {
  /** gzip is not offered: such blobs are taken for something older. */
  readonly compressor: Exclude<Compressor, "gzip">;
  readonly hasher: ChunkHasher;
}

/** A finished blob file. */
export interface BlobFile {
  readonly path: string;
  readonly digest: Digest;
  readonly size: number;
  /** As the merged bootstrap lists it; undefined for a blob without chunks, which no bootstrap may list. */
  readonly info: BlobInfo | undefined;
  /** For `image/<id>.blob.meta` in the bootstrap layer. */
  readonly chunkInfo: Uint8Array | undefined;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class BlobWriter implements Disposable {
  /** What the tree's chunks refer to; gets its id when the blob is finished. */
  readonly blob: BlobRef = { id: PLACEHOLDER_ID };
  readonly #options: BlobWriterOptions;
  readonly #file: HashedFile;
  readonly #queue: ChunkQueue;
  readonly #dict = new ChunkDict();
  readonly #chunks: ChunkRef[] = [];
  #slab = new Uint8Array(0);
  #uncompressedSize = 0;

  /** The file must not exist yet. */
  constructor(path: string, options: BlobWriterOptions) {
    this.#file = new HashedFile(path);
    this.#options = options;
    this.#queue = new ChunkQueue(options.compressor);
  }

  /** Distinct chunks so far. */
  get chunkCount(): number {
    return this.#chunks.length;
  }

  /** Whether to wait for `room` before adding more. */
  get full(): boolean {
    return this.#queue.full;
  }

  room(): Promise<void> {
    return this.#queue.room();
  }

  /**
   * The bytes must not change until the blob is finished. The compressed offset and size of what is returned are only
   * final then.
   */
  add(bytes: Uint8Array): ChunkRef {
    const digest = this.#options.hasher.digest(bytes);
    const known = this.#dict.find(digest, bytes.byteLength);
    if (known !== undefined) return known;
    const chunk: Mutable<ChunkRef> = {
      blob: this.blob,
      index: this.#chunks.length,
      compressedOffset: 0,
      compressedSize: 0,
      uncompressedOffset: this.#uncompressedSize,
      uncompressedSize: bytes.byteLength,
      compressed: false,
      digest: this.#keep(digest),
      crc: 0,
    };
    this.#uncompressedSize += alignUp(bytes.byteLength, ALIGNMENT);
    this.#assertLimits();
    this.#chunks.push(chunk);
    this.#dict.add(chunk);
    this.#queue.add(bytes, (stored, compressed) => {
      chunk.compressedOffset = this.#file.size;
      chunk.compressedSize = stored.byteLength;
      chunk.compressed = compressed;
      this.#file.write(stored);
    });
    return chunk;
  }

  /**
   * @param bootstrap writes the layer's own bootstrap; all chunks are final when it is called. The blob it is given is
   *   the one that bootstrap lists, undefined if the layer has no file data.
   */
  async finish(bootstrap: (blob: BlobInfo | undefined) => Uint8Array): Promise<BlobFile> {
    await this.#queue.drain();
    const toc: TocEntry[] = [];
    const meta = this.#chunks.length > 0 ? this.#writeData(toc) : undefined;
    this.#writeBootstrap(bootstrap(meta?.info), toc);
    const table = encodeToc(toc);
    this.#file.write(table);
    this.#file.write(encodeFrame(SECTION.toc, table.byteLength));
    const hex = Buffer.from(this.#file.digest()).toString("hex");
    this.blob.id = hex;
    return {
      path: this.#file.path,
      digest: digestFromHex(hex),
      size: this.#file.size,
      // Only the bootstrap inside the blob is inlined; the merged one is not.
      info: meta && { ...meta.info, id: hex, features: meta.info.features & ~BLOB_FEATURES.inlinedBootstrap },
      chunkInfo: meta?.chunkInfo,
    };
  }

  /** The three sections that exist when there are chunks. Compressed size ends up where `image.boot` will start. */
  #writeData(toc: TocEntry[]): { info: BlobInfo; chunkInfo: Uint8Array } {
    const dataSize = this.#file.size;
    this.#file.write(encodeFrame(SECTION.data, dataSize));
    toc.push({
      name: SECTION.data,
      compressor: "none",
      // The reference takes this digest after the header was written; readers expect it so.
      digest: this.#file.digest(),
      offset: 0,
      compressedSize: dataSize,
      uncompressedSize: this.#uncompressedSize,
    });
    const ciOffset = this.#file.size;
    const { compressor: ciCompressor, compressedSize, array, header } = this.#writeChunkInfo(toc);
    this.#writeDigests(toc);
    const info: BlobInfo = {
      id: PLACEHOLDER_ID,
      index: 0,
      chunkCount: this.#chunks.length,
      compressor: this.#options.compressor,
      digester: this.#options.hasher.algorithm,
      features: FEATURES,
      compressedSize: this.#file.size,
      uncompressedSize: this.#uncompressedSize,
      tocSize: 0,
      tocDigest: new Uint8Array(DIGEST_SIZE),
      ciCompressor,
      ciOffset,
      ciCompressedSize: compressedSize,
      ciUncompressedSize: array.byteLength,
      metaDigest: new Uint8Array(DIGEST_SIZE),
      metaSize: 0,
    };
    return { info, chunkInfo: chunkInfoFile(array, header) };
  }

  #writeChunkInfo(toc: TocEntry[]) {
    const array = encodeChunkInfos(this.#chunks);
    // No extractor of tables of contents knows lz4, and the blob's own compressor need not be used here.
    const wanted = this.#options.compressor === "lz4_block" ? "zstd" : this.#options.compressor;
    const smaller = compressChunk(wanted, array);
    const stored = smaller ?? array;
    const compressor = smaller === undefined ? "none" : wanted;
    const offset = this.#file.size;
    this.#file.write(stored);
    const header = encodeChunkInfoHeader({
      features: FEATURES,
      compressor,
      entries: this.#chunks.length,
      offset,
      compressedSize: stored.byteLength,
      uncompressedSize: array.byteLength,
    });
    this.#file.write(header);
    this.#file.write(encodeFrame(SECTION.chunkInfo, stored.byteLength + HEADER_SIZE));
    toc.push(entry(SECTION.chunkInfo, offset, array, { compressor, size: stored.byteLength }));
    toc.push(entry(CHUNK_INFO_HEADER, offset + stored.byteLength, header));
    return { compressor, compressedSize: stored.byteLength, array, header } as const;
  }

  #writeDigests(toc: TocEntry[]): void {
    const digests = new Uint8Array(this.#chunks.length * DIGEST_SIZE);
    for (const [index, chunk] of this.#chunks.entries()) digests.set(chunk.digest, index * DIGEST_SIZE);
    toc.push(entry(SECTION.digests, this.#file.size, digests));
    this.#file.write(digests);
    this.#file.write(encodeFrame(SECTION.digests, digests.byteLength));
  }

  #writeBootstrap(bootstrap: Uint8Array, toc: TocEntry[]): void {
    const smaller = compressChunk("zstd", bootstrap);
    const stored = smaller ?? bootstrap;
    const form = { compressor: smaller === undefined ? "none" : "zstd", size: stored.byteLength } as const;
    toc.push(entry(SECTION.bootstrap, this.#file.size, bootstrap, form));
    this.#file.write(stored);
    this.#file.write(encodeFrame(SECTION.bootstrap, stored.byteLength));
  }

  #keep(digest: Uint8Array): Uint8Array {
    const at = (this.#chunks.length % SLAB_DIGESTS) * DIGEST_SIZE;
    if (at === 0) this.#slab = new Uint8Array(SLAB_DIGESTS * DIGEST_SIZE);
    this.#slab.set(digest, at);
    return this.#slab.subarray(at, at + DIGEST_SIZE);
  }

  #assertLimits(): void {
    const past =
      this.#chunks.length + 1 >= MAX_CHUNKS
        ? `${MAX_CHUNKS - 1} chunks; larger chunks would help (--chunk-size)`
        : this.#uncompressedSize > MAX_UNCOMPRESSED_SIZE
          ? `${MAX_UNCOMPRESSED_SIZE} bytes`
          : this.#file.size > MAX_COMPRESSED_SIZE
            ? `${MAX_COMPRESSED_SIZE} stored bytes`
            : undefined;
    if (past !== undefined)
      throw new NydusError("unsupported", `Cannot write a layer's blob: it needs more than ${past}`);
  }

  /** Closes the file; removing it is for whoever owns the directory. */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

function entry(
  name: string,
  offset: number,
  content: Uint8Array,
  stored: { compressor: TocEntry["compressor"]; size: number } = {
    compressor: "none",
    size: content.byteLength,
  },
): TocEntry {
  return {
    name,
    compressor: stored.compressor,
    digest: sha256(content),
    offset,
    compressedSize: stored.size,
    uncompressedSize: content.byteLength,
  };
}
