/**
 * Writes one layer's blob for RAFS v5: chunk data, then the layer's own bootstrap, each followed by its tar header.
 * Chunks have no gaps between them, also in the uncompressed address space, and all that is known of them is in the
 * bootstrap. A layer without file data has only the bootstrap.
 *
 * @module
 */
import { type ChunkHasher, digestFromHex, digestHex } from "../base/digest.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import { assertBlobLimits } from "./blob-limits.ts";
import { type BlobFile, type BlobWriterOptions, NOT_RECORDED, PLACEHOLDER_ID } from "./blob-writer.ts";
import { ChunkDict } from "./chunk-dict.ts";
import { ChunkQueue } from "./chunk-queue.ts";
import { DigestSlabs } from "./digest-slabs.ts";
import { END_OF_ARCHIVE, encodeFrame, SECTION } from "./framing.ts";
import { HashedFile } from "./hashed-file.ts";

const FEATURES = BLOB_FEATURES.inlinedBootstrap | BLOB_FEATURES.tarHeaders | BLOB_FEATURES.capTarToc;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class PackedBlobWriter implements Disposable {
  /** What the tree's chunks refer to; gets its id when the blob is finished. */
  readonly blob: BlobRef = { id: PLACEHOLDER_ID };
  readonly #options: BlobWriterOptions;
  readonly #hasher: ChunkHasher;
  readonly #file: HashedFile;
  readonly #queue: ChunkQueue;
  readonly #dict = new ChunkDict();
  readonly #digests = new DigestSlabs();
  #count = 0;
  #uncompressedSize = 0;

  /** The file must not exist yet. */
  constructor(path: string, options: BlobWriterOptions) {
    this.#file = new HashedFile(path);
    this.#options = options;
    this.#hasher = options.hasher;
    this.#queue = new ChunkQueue(options.compressor);
  }

  /** Whether to wait for `room` before adding more. */
  get full(): boolean {
    return this.#queue.full;
  }

  room(): Promise<void> {
    return this.#queue.room();
  }

  /** As `BlobWriter.add`. */
  add(bytes: Uint8Array): ChunkRef {
    const digest = this.#hasher.digest(bytes);
    const size = bytes.byteLength;
    const known = this.#options.dictionary?.find(digest, size) ?? this.#dict.find(digest, size);
    if (known !== undefined) return known;
    const chunk: Mutable<ChunkRef> = {
      blob: this.blob,
      index: this.#count++,
      compressedOffset: 0,
      compressedSize: 0,
      uncompressedOffset: this.#uncompressedSize,
      uncompressedSize: size,
      compressed: false,
      digest: this.#digests.keep(digest),
      crc: 0,
    };
    this.#uncompressedSize += size;
    assertBlobLimits({
      chunks: this.#count,
      uncompressedSize: this.#uncompressedSize,
      storedSize: this.#file.size,
    });
    this.#dict.add(chunk);
    this.#queue.add(bytes, (stored, compressed) => {
      if (this.#file.size === 0) this.#file.write(END_OF_ARCHIVE);
      chunk.compressedOffset = this.#file.size;
      chunk.compressedSize = stored.byteLength;
      chunk.compressed = compressed;
      this.#file.write(stored);
    });
    return chunk;
  }

  /** As `BlobWriter.finish`. */
  async finish(bootstrap: (blob: BlobInfo | undefined) => Uint8Array): Promise<BlobFile> {
    await this.#queue.drain();
    if (this.#count > 0) this.#file.write(encodeFrame(SECTION.data, this.#file.size));
    const info = this.#count > 0 ? this.#info() : undefined;
    const image = bootstrap(info);
    this.#file.write(image);
    this.#file.write(encodeFrame(SECTION.bootstrap, image.byteLength));
    const digest = digestFromHex(Buffer.from(this.#file.digest()).toString("hex"));
    const id = digestHex(digest);
    this.blob.id = id;
    return {
      path: this.#file.path,
      digest,
      size: this.#file.size,
      // Only the bootstrap inside the blob is inlined; the merged one is not.
      info: info && { ...info, id, features: FEATURES & ~BLOB_FEATURES.inlinedBootstrap },
      chunkInfo: undefined,
    };
  }

  /** Its compressed size is where `image.boot` starts. */
  #info(): BlobInfo {
    const { compressor } = this.#options;
    return {
      ...NOT_RECORDED,
      id: PLACEHOLDER_ID,
      index: 0,
      chunkCount: this.#count,
      compressor,
      digester: this.#hasher.algorithm,
      features: FEATURES,
      compressedSize: this.#file.size,
      uncompressedSize: this.#uncompressedSize,
      ciCompressor: "none",
      ciOffset: 0,
      ciCompressedSize: 0,
      ciUncompressedSize: 0,
    };
  }

  /** Closes the file; removing it is for whoever owns the directory. */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
