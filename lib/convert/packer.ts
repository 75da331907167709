/**
 * Puts what a layer holds into a tree, and its data into whatever keeps chunks.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import { type ChunkDigester, type ChunkHasher, chunkHasher } from "../base/digest.ts";
import { type BlobFile, BlobWriter, type ChunkOrigin } from "../blob/blob-writer.ts";
import { chunksOf } from "../blob/chunker.ts";
import { cipherFor } from "../blob/cipher.ts";
import type { Dictionary } from "../blob/dictionary.ts";
import { PackedBlobWriter } from "../blob/packed-blob-writer.ts";
import { EntryTree } from "../content/entry-tree.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { type FsVersion, writeImage } from "../rafs/image.ts";
import type { TarEntry } from "../tar/reader.ts";
import type { BlobRef, ChunkRef, Directory } from "../tree/tree.ts";

/** How blobs are made; the same for all layers of an image. */
export interface PackFormat {
  /** Default 6. */
  readonly fsVersion?: FsVersion;
  readonly compressor: Exclude<Compressor, "gzip">;
  readonly digester: ChunkDigester;
  /** Bytes: a power of two from 4096 to 16 MiB. */
  readonly chunkSize: number;
  /** Small files are compressed together, up to this many bytes: a power of two, at most the chunk size. */
  readonly batchSize?: number;
  /** AES-128-XTS; the key is in the bootstrap. */
  readonly encrypt?: boolean;
  /** Files stay where they are in the tars of their layers. */
  readonly tarfs?: boolean;
}

export const DEFAULT_COMPRESSOR = "zstd";

/** The members of `PackFormat` alone, for messages and other options. */
export function packFormat(options: PackFormat): PackFormat {
  const { fsVersion, compressor, digester, chunkSize, batchSize, encrypt, tarfs } = options;
  return {
    ...(fsVersion === undefined ? {} : { fsVersion }),
    compressor,
    digester,
    chunkSize,
    ...(batchSize === undefined ? {} : { batchSize }),
    ...(encrypt === undefined ? {} : { encrypt }),
    ...(tarfs === undefined ? {} : { tarfs }),
  };
}

/** A layer's content: its tree, and its data in a blob file. */
export interface PackedContent {
  readonly tree: Directory;
  /** What the tree's chunks refer to. */
  readonly blob: BlobRef;
  readonly file: BlobFile;
}

/** A blob that is being written: `BlobWriter`, `ReferenceWriter`, `TarfsWriter`. */
export interface ChunkWriter extends Disposable {
  readonly blob: BlobRef;
  /** Whether to wait for `room` before adding more. */
  readonly full: boolean;
  room(): Promise<void>;
  add(bytes: Uint8Array, origin: ChunkOrigin): ChunkRef;
  finish(bootstrap: (blob: BlobInfo | undefined) => Uint8Array): Promise<BlobFile>;
}

export interface BlobWriterParts {
  readonly hasher: ChunkHasher;
  /** What the key of an encrypted blob follows from: see `cipherFor`. */
  readonly secret?: string | undefined;
  readonly dictionary?: Dictionary | undefined;
}

/** For a blob of its own. The file must not exist yet. */
export function blobWriter(
  path: string,
  format: PackFormat,
  { hasher, secret, dictionary }: BlobWriterParts,
): ChunkWriter {
  const { fsVersion, compressor, digester, chunkSize, batchSize, encrypt } = format;
  if (fsVersion === 5) return new PackedBlobWriter(path, { compressor, hasher, dictionary });
  const name = `${compressor} ${digester} ${chunkSize} ${batchSize ?? 0}`;
  const cipher = encrypt === true ? cipherFor(secret, name) : undefined;
  return new BlobWriter(path, { compressor, hasher, dictionary, batchSize, cipher });
}

/** Puts entries into a tree and their data into a blob. */
export class Packer implements Disposable {
  readonly #tree = new EntryTree((entry) => this.#store(entry));
  readonly #writer: ChunkWriter;
  readonly #format: PackFormat;
  readonly #dictionary: Dictionary | undefined;

  /**
   * @param writer is closed with this
   * @param dictionary what the writer takes chunks from
   */
  constructor(writer: ChunkWriter, format: PackFormat, dictionary?: Dictionary) {
    this.#writer = writer;
    this.#format = format;
    this.#dictionary = dictionary;
  }

  async add(entry: TarEntry): Promise<void> {
    await this.#tree.add(entry);
  }

  async finish(): Promise<PackedContent> {
    const { fsVersion = 6, compressor, digester, chunkSize, tarfs = false } = this.#format;
    const tree = this.#tree.root;
    const { blob } = this.#writer;
    const hasher = await chunkHasher(digester);
    const file = await this.#writer.finish((info) =>
      writeImage(tree, {
        version: fsVersion,
        hasher,
        chunkSize,
        tarfs,
        compressor: info?.compressor ?? compressor,
        blobs: (ref) => (ref === blob ? info : this.#dictionary?.info(ref)),
      }),
    );
    return { tree, blob, file };
  }

  async #store(entry: TarEntry): Promise<readonly ChunkRef[]> {
    const chunks: ChunkRef[] = [];
    if (entry.size === 0) return chunks;
    const { chunkSize } = this.#format;
    const wholeFile = entry.size <= chunkSize;
    let tarOffset = entry.dataOffset;
    for await (const chunk of chunksOf(entry.body, entry.size, chunkSize)) {
      if (this.#writer.full) await this.#writer.room();
      chunks.push(this.#writer.add(chunk, { tarOffset, wholeFile }));
      tarOffset += chunk.byteLength;
    }
    return chunks;
  }

  [Symbol.dispose](): void {
    this.#writer[Symbol.dispose]();
  }
}
