/**
 * Writes one layer's blob: chunk data, compression information, chunk digests, the layer's own bootstrap and a table
 * of contents, each followed by its tar header. A layer without file data has only the last two.
 *
 * Chunks get their place in the order they are added, so the same chunks give the same bytes.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import { type ChunkHasher, type Digest, digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type BlobInfo, MAX_CHUNKS, MAX_COMPRESSED_SIZE, MAX_UNCOMPRESSED_SIZE } from "../rafs/blob-table.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import { BlobSections } from "./blob-sections.ts";
import { ChunkDict } from "./chunk-dict.ts";
import { ChunkQueue } from "./chunk-queue.ts";
import { encodeChunkInfos } from "./compression-info.ts";
import { DigestSlabs } from "./digest-slabs.ts";
import { HashedFile } from "./hashed-file.ts";

const ALIGNMENT = 4096;
const DIGEST_SIZE = 32;

/** What a bootstrap inside a blob calls that blob: its digest is not known yet. */
export const PLACEHOLDER_ID = "x".repeat(64);

/** Fields that the reference leaves empty, too. */
export const NOT_RECORDED: Pick<BlobInfo, "tocSize" | "tocDigest" | "metaDigest" | "metaSize"> = {
  tocSize: 0,
  tocDigest: new Uint8Array(DIGEST_SIZE),
  metaDigest: new Uint8Array(DIGEST_SIZE),
  metaSize: 0,
};

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
  /** Of a blob that holds no data itself: the original layer that does. */
  readonly original?: Descriptor;
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
  readonly #digests = new DigestSlabs();
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
      digest: this.#digests.keep(digest),
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
    const sections = new BlobSections(this.#file);
    const meta = this.#chunks.length > 0 ? this.#writeData(sections) : undefined;
    sections.bootstrap(bootstrap(meta?.info));
    const { digest, size } = sections.finish();
    const id = digestHex(digest);
    this.blob.id = id;
    return {
      path: this.#file.path,
      digest,
      size,
      // Only the bootstrap inside the blob is inlined; the merged one is not.
      info: meta && { ...meta.info, id, features: meta.info.features & ~BLOB_FEATURES.inlinedBootstrap },
      chunkInfo: meta?.chunkInfo,
    };
  }

  /** The three sections that exist when there are chunks. Compressed size ends up where `image.boot` will start. */
  #writeData(sections: BlobSections): { info: BlobInfo; chunkInfo: Uint8Array } {
    const { compressor, hasher } = this.#options;
    const count = this.#chunks.length;
    sections.data(this.#uncompressedSize);
    const section = { features: FEATURES, count, array: encodeChunkInfos(this.#chunks) };
    const { place, file } = sections.chunkInfo(section, compressor);
    sections.digests(this.#chunks);
    const info: BlobInfo = {
      ...place,
      ...NOT_RECORDED,
      id: PLACEHOLDER_ID,
      index: 0,
      chunkCount: count,
      compressor,
      digester: hasher.algorithm,
      features: FEATURES,
      compressedSize: sections.size,
      uncompressedSize: this.#uncompressedSize,
    };
    return { info, chunkInfo: file };
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
