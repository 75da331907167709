/**
 * Puts what a layer holds into a tree, and its data into whatever keeps chunks.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import { type ChunkDigester, type ChunkHasher, chunkHasher } from "../base/digest.ts";
import { type BlobFile, BlobWriter } from "../blob/blob-writer.ts";
import { chunksOf } from "../blob/chunker.ts";
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
}

/** A layer's content: its tree, and its data in a blob file. */
export interface PackedContent {
  readonly tree: Directory;
  /** What the tree's chunks refer to. */
  readonly blob: BlobRef;
  readonly file: BlobFile;
}

/** A blob that is being written: `BlobWriter`, `ReferenceWriter`. */
export interface ChunkWriter extends Disposable {
  readonly blob: BlobRef;
  /** Whether to wait for `room` before adding more. */
  readonly full: boolean;
  room(): Promise<void>;
  /** @param tarOffset where the bytes are in the uncompressed layer */
  add(bytes: Uint8Array, tarOffset: number): ChunkRef;
  finish(bootstrap: (blob: BlobInfo | undefined) => Uint8Array): Promise<BlobFile>;
}

/** For a blob of its own. The file must not exist yet. */
export function blobWriter(path: string, format: PackFormat, hasher: ChunkHasher): ChunkWriter {
  const options = { compressor: format.compressor, hasher };
  return format.fsVersion === 5 ? new PackedBlobWriter(path, options) : new BlobWriter(path, options);
}

/** Puts entries into a tree and their data into a blob. */
export class Packer implements Disposable {
  readonly #tree = new EntryTree((entry) => this.#store(entry));
  readonly #writer: ChunkWriter;
  readonly #format: PackFormat;

  /** @param writer is closed with this */
  constructor(writer: ChunkWriter, format: PackFormat) {
    this.#writer = writer;
    this.#format = format;
  }

  async add(entry: TarEntry): Promise<void> {
    await this.#tree.add(entry);
  }

  async finish(): Promise<PackedContent> {
    const { fsVersion = 6, compressor, digester, chunkSize } = this.#format;
    const tree = this.#tree.root;
    const { blob } = this.#writer;
    const hasher = await chunkHasher(digester);
    const file = await this.#writer.finish((info) =>
      writeImage(tree, {
        version: fsVersion,
        hasher,
        chunkSize,
        compressor: info?.compressor ?? compressor,
        blobs: new Map(info === undefined ? [] : [[blob, info]]),
      }),
    );
    return { tree, blob, file };
  }

  async #store(entry: TarEntry): Promise<readonly ChunkRef[]> {
    const chunks: ChunkRef[] = [];
    if (entry.size === 0) return chunks;
    let at = entry.dataOffset;
    for await (const chunk of chunksOf(entry.body, entry.size, this.#format.chunkSize)) {
      if (this.#writer.full) await this.#writer.room();
      chunks.push(this.#writer.add(chunk, at));
      at += chunk.byteLength;
    }
    return chunks;
  }

  [Symbol.dispose](): void {
    this.#writer[Symbol.dispose]();
  }
}
