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
import { alignUp } from "../base/math.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { Cipher } from "../rafs/chunk-map.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import { Batches } from "./batches.ts";
import { assertBlobLimits } from "./blob-limits.ts";
import { BlobSections, type ChunkInfoSection } from "./blob-sections.ts";
import { ChunkDict } from "./chunk-dict.ts";
import { ENTRY_SIZE_V2, encodeChunkInfosV2 } from "./chunk-info-v2.ts";
import { ChunkQueue } from "./chunk-queue.ts";
import { encrypted } from "./cipher.ts";
import { encodeChunkInfos } from "./compression-info.ts";
import type { Dictionary } from "./dictionary.ts";
import { DigestSlabs } from "./digest-slabs.ts";
import { END_OF_ARCHIVE } from "./framing.ts";
import { HashedFile } from "./hashed-file.ts";
import { encodeBatches } from "./stored-unit.ts";

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
  /** Chunks that need not be stored again. */
  readonly dictionary?: Pick<Dictionary, "find"> | undefined;
  /** Small files are compressed together, up to this many bytes. */
  readonly batchSize?: number | undefined;
  /** Encrypts everything but the layer's bootstrap. */
  readonly cipher?: Cipher | undefined;
}

/** Where a chunk comes from. */
export interface ChunkOrigin {
  /** Where its bytes are in the uncompressed layer. */
  readonly tarOffset: number;
  /** It is all of its file. */
  readonly wholeFile: boolean;
}

/** Encrypting makes shorter units longer, so that their size no longer tells whether they are compressed. */
const LEAST_ENCRYPTED_BATCH = 64;

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
  readonly #batches: Batches | undefined;
  readonly #dict = new ChunkDict();
  readonly #chunks: Mutable<ChunkRef>[] = [];
  readonly #digests = new DigestSlabs();
  #uncompressedSize = 0;

  /** The file must not exist yet. */
  constructor(path: string, options: BlobWriterOptions) {
    this.#file = new HashedFile(path);
    this.#options = options;
    this.#queue = new ChunkQueue(options.compressor);
    this.#batches = this.#startBatches();
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
   * final then, and stay 0 for chunks that are compressed together with others.
   */
  add(bytes: Uint8Array, origin: Pick<ChunkOrigin, "wholeFile">): ChunkRef {
    const digest = this.#options.hasher.digest(bytes);
    const size = bytes.byteLength;
    const known = this.#options.dictionary?.find(digest, size) ?? this.#dict.find(digest, size);
    if (known !== undefined) return known;
    const ordinal = this.#chunks.length;
    const chunk: Mutable<ChunkRef> = {
      blob: this.blob,
      index: ordinal,
      compressedOffset: 0,
      compressedSize: 0,
      uncompressedOffset: this.#uncompressedSize,
      uncompressedSize: size,
      compressed: false,
      digest: this.#digests.keep(digest),
      crc: 0,
    };
    this.#append(chunk);
    this.#dict.add(chunk);
    if (this.#batches?.takes(size, origin.wholeFile) === true) this.#batches.add(ordinal, bytes);
    else {
      this.#batches?.flush();
      this.#store(ordinal, bytes);
    }
    return chunk;
  }

  /**
   * Takes over a chunk as it is stored in another blob of the same compressor and digester, without batches or
   * encryption. Not together with `add`: what is copied is written at once.
   */
  copy(from: ChunkRef, stored: Uint8Array): ChunkRef {
    const { start, size } = this.#write(stored);
    const chunk: Mutable<ChunkRef> = {
      ...from,
      blob: this.blob,
      index: this.#chunks.length,
      compressedOffset: start,
      compressedSize: size,
      uncompressedOffset: this.#uncompressedSize,
    };
    this.#append(chunk);
    return chunk;
  }

  #append(chunk: Mutable<ChunkRef>): void {
    this.#uncompressedSize += alignUp(chunk.uncompressedSize, ALIGNMENT);
    assertBlobLimits({
      chunks: this.#chunks.length + 1,
      uncompressedSize: this.#uncompressedSize,
      storedSize: this.#file.size,
    });
    this.#chunks.push(chunk);
  }

  /** As a stored unit of its own. */
  #store(ordinal: number, bytes: Uint8Array): void {
    this.#queue.add(bytes, (stored, compressed) => {
      const chunk = this.#chunks[ordinal];
      if (chunk === undefined) return;
      const { start, size } = this.#write(stored);
      chunk.compressedOffset = start;
      chunk.compressedSize = size;
      chunk.compressed = compressed;
    });
  }

  #write(stored: Uint8Array): { start: number; size: number } {
    const unit = encrypted(this.#options.cipher, stored);
    if (this.#file.size === 0) this.#file.write(END_OF_ARCHIVE);
    const start = this.#file.size;
    this.#file.write(unit);
    return { start, size: unit.byteLength };
  }

  #startBatches(): Batches | undefined {
    const { batchSize, cipher } = this.#options;
    if (batchSize === undefined) return undefined;
    return new Batches(this.#queue, {
      batchSize,
      least: cipher === undefined ? 0 : LEAST_ENCRYPTED_BATCH,
      alone: (ordinal, bytes) => this.#store(ordinal, bytes),
      write: (stored) => this.#write(stored),
    });
  }

  /**
   * @param bootstrap writes the layer's own bootstrap; all chunks are final when it is called. The blob it is given is
   *   the one that bootstrap lists, undefined if the layer has no file data.
   */
  async finish(bootstrap: (blob: BlobInfo | undefined) => Uint8Array): Promise<BlobFile> {
    this.#batches?.flush();
    await this.#queue.drain();
    const sections = new BlobSections(this.#file, this.#options.cipher);
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
    const { compressor, hasher, cipher } = this.#options;
    const features = this.#features();
    sections.data(this.#uncompressedSize);
    const { place, file } = sections.chunkInfo({ features, ...this.#chunkInfos() }, compressor);
    sections.digests(this.#chunks);
    const info: BlobInfo = {
      ...place,
      ...NOT_RECORDED,
      id: PLACEHOLDER_ID,
      index: 0,
      chunkCount: this.#chunks.length,
      compressor,
      digester: hasher.algorithm,
      features,
      compressedSize: sections.size,
      uncompressedSize: this.#uncompressedSize,
      ...(cipher === undefined ? {} : { cipher }),
    };
    return { info, chunkInfo: file };
  }

  #features(): number {
    const batch = this.#batches === undefined ? 0 : BLOB_FEATURES.batch | BLOB_FEATURES.ciVersion2;
    const { cipher } = this.#options;
    return FEATURES | batch | (cipher === undefined ? 0 : BLOB_FEATURES.encrypted | BLOB_FEATURES.ciVersion2);
  }

  #chunkInfos(): Omit<ChunkInfoSection, "features"> {
    const count = this.#chunks.length;
    const { cipher } = this.#options;
    const batches = this.#batches;
    if (batches === undefined && cipher === undefined)
      return { count, array: encodeChunkInfos(this.#chunks) };
    const placeOf = (ordinal: number) => batches?.placeOf(ordinal);
    const entries = encodeChunkInfosV2(this.#chunks, placeOf, cipher !== undefined);
    const units = encodeBatches(batches?.units ?? []);
    if (units.byteLength === 0) return { count, array: entries };
    const contexts = {
      contextOffset: count * ENTRY_SIZE_V2,
      contextSize: units.byteLength,
      contexts: batches?.units.length ?? 0,
    };
    return { count, array: Buffer.concat([entries, units]), contexts };
  }

  /** Closes the file; removing it is for whoever owns the directory. */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
