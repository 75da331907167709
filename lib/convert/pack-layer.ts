/**
 * A layer becomes a blob: compressed tar -> tar entries -> chunks in a blob file, and the layer's tree. Everything
 * streams; what grows with the layer is its tree.
 *
 * @module
 */

import type { Compressor } from "../base/compression.ts";
import { type ChunkDigester, chunkHasher, type Digest, Digester } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { type BlobFile, BlobWriter, type BlobWriterOptions } from "../blob/blob-writer.ts";
import { chunksOf } from "../blob/chunker.ts";
import { decompressed } from "../content/decompress.ts";
import { writeBootstrap } from "../rafs/writer.ts";
import { readTar, type TarEntry } from "../tar/reader.ts";
import { LayerTreeBuilder } from "../tree/layer-tree.ts";
import type { Attributes, BlobRef, ChunkRef, Directory } from "../tree/tree.ts";

/** How blobs are made; the same for all layers of an image. */
export interface PackFormat {
  readonly compressor: Exclude<Compressor, "gzip">;
  readonly digester: ChunkDigester;
  /** Bytes: a power of two from 4096 to 16 MiB. */
  readonly chunkSize: number;
}

export interface PackOptions extends PackFormat {
  /** Where the blob goes; there is no such file yet. */
  readonly path: string;
  /** What the layer is called in messages. */
  readonly what: string;
  /** Of the uncompressed tar, as the image's config has it. */
  readonly diffId?: Digest;
  readonly signal?: AbortSignal;
}

/** A layer's content: its tree, and its data in a blob file. */
export interface PackedContent {
  readonly tree: Directory;
  /** What the tree's chunks refer to. */
  readonly blob: BlobRef;
  readonly file: BlobFile;
}

export interface PackedLayer extends PackedContent {
  readonly diffId: Digest;
  /** Of the uncompressed tar. */
  readonly tarSize: number;
  /** Entries in the layer. */
  readonly entries: number;
}

/** @throws corrupt when the tar is malformed or is not what `diffId` says */
export async function packLayer(
  source: AsyncIterable<Uint8Array>,
  options: PackOptions,
): Promise<PackedLayer> {
  const tar = new Digester();
  const hashed = async function* (): AsyncGenerator<Uint8Array> {
    for await (const piece of decompressed(source, options.what)) {
      tar.update(piece);
      yield piece;
    }
  };
  using packer = await Packer.open(options);
  let entries = 0;
  const { signal } = options;
  for await (const entry of readTar(hashed(), signal === undefined ? {} : { signal })) {
    await packer.add(entry);
    entries++;
  }
  const diffId = tar.finish();
  if (options.diffId !== undefined && options.diffId !== diffId)
    throw corrupt(
      `Cannot convert ${options.what}: its tar has digest ${diffId}, and the config says ${options.diffId}`,
    );
  return { ...(await packer.finish()), diffId, tarSize: tar.size, entries };
}

/** One for all: trees move between threads, and most nodes have none. */
const NO_XATTRS: Attributes["xattrs"] = new Map();

/** Puts entries into a tree and their data into a blob. */
export class Packer implements Disposable {
  readonly #builder = new LayerTreeBuilder();
  readonly #writer: BlobWriter;
  readonly #format: PackFormat;

  private constructor(path: string, format: PackFormat, options: BlobWriterOptions) {
    this.#format = format;
    this.#writer = new BlobWriter(path, options);
  }

  static async open(options: PackFormat & { readonly path: string }): Promise<Packer> {
    const hasher = await chunkHasher(options.digester);
    return new Packer(options.path, options, { compressor: options.compressor, hasher });
  }

  async add(entry: TarEntry): Promise<void> {
    const { path } = entry;
    if (this.#builder.ignores(path)) return;
    const { mode, uid, gid, mtime, mtimeNs } = entry;
    const xattrs = entry.xattrs.size === 0 ? NO_XATTRS : entry.xattrs;
    const attributes = { mode, uid, gid, mtime, mtimeNs, xattrs };
    switch (entry.kind) {
      case "file":
        this.#builder.addFile(path, attributes, entry.size, await this.#store(entry));
        break;
      case "directory":
        this.#builder.addDirectory(path, attributes);
        break;
      case "symlink":
        this.#builder.addSymlink(path, attributes, entry.linkTarget);
        break;
      case "hardlink":
        this.#builder.addHardlink(path, entry.linkTarget);
        break;
      case "fifo":
        this.#builder.addFifo(path, attributes);
        break;
      default:
        this.#builder.addDevice(path, attributes, {
          kind: entry.kind,
          major: entry.major,
          minor: entry.minor,
        });
    }
  }

  async finish(): Promise<PackedContent> {
    const { compressor, digester, chunkSize } = this.#format;
    const tree = this.#builder.root;
    const { blob } = this.#writer;
    const file = await this.#writer.finish((info) =>
      writeBootstrap(tree, {
        chunkSize,
        compressor,
        digester,
        blobs: new Map(info === undefined ? [] : [[blob, info]]),
      }),
    );
    return { tree, blob, file };
  }

  async #store(entry: TarEntry): Promise<readonly ChunkRef[]> {
    const chunks: ChunkRef[] = [];
    if (entry.size === 0) return chunks;
    for await (const chunk of chunksOf(entry.body, entry.size, this.#format.chunkSize)) {
      if (this.#writer.full) await this.#writer.room();
      chunks.push(this.#writer.add(chunk));
    }
    return chunks;
  }

  [Symbol.dispose](): void {
    this.#writer[Symbol.dispose]();
  }
}
