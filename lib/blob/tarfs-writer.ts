/**
 * Writes the blob of a layer whose files stay where they are in its tar (tarfs). All there is to write is the layer's own
 * bootstrap: chunks are stretches of the tar, and nothing but the layer's digest vouches for them.
 *
 * @module
 */
import { digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type BlobInfo, MAX_CHUNKS } from "../rafs/blob-table.ts";
import { UNKNOWN_DIGEST } from "../rafs/chunk-record.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { TAR_BLOCK_SIZE } from "../rafs/superblock.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import { BlobSections } from "./blob-sections.ts";
import { type BlobFile, type ChunkOrigin, NOT_RECORDED } from "./blob-writer.ts";
import { HashedFile } from "./hashed-file.ts";

export class TarfsWriter implements Disposable {
  readonly blob: BlobRef;
  /** Nothing is stored here: there is always room. */
  readonly full = false;
  readonly #file: HashedFile;
  readonly #layer: Descriptor;
  readonly #tar: { readonly size: number };
  #chunks = 0;

  /**
   * @param path of the blob; there is no such file yet
   * @param layer the original, compressed or not
   * @param tar all of it when `finish` is called
   */
  constructor(path: string, layer: Descriptor, tar: { readonly size: number }) {
    this.#file = new HashedFile(path);
    this.#layer = layer;
    this.#tar = tar;
    this.blob = { id: digestHex(layer.digest) };
  }

  async room(): Promise<void> {}

  add(bytes: Uint8Array, { tarOffset }: Pick<ChunkOrigin, "tarOffset">): ChunkRef {
    if (this.#chunks + 1 >= MAX_CHUNKS)
      throw new NydusError(
        "unsupported",
        `Cannot refer to a layer: it has more than ${MAX_CHUNKS - 1} chunks`,
      );
    return {
      blob: this.blob,
      index: this.#chunks++,
      compressedOffset: tarOffset,
      compressedSize: bytes.byteLength,
      uncompressedOffset: tarOffset,
      uncompressedSize: bytes.byteLength,
      compressed: false,
      digest: UNKNOWN_DIGEST,
      crc: 0,
    };
  }

  /** As `BlobWriter.finish`. */
  async finish(bootstrap: (blob: BlobInfo | undefined) => Uint8Array): Promise<BlobFile> {
    const sections = new BlobSections(this.#file);
    const info = this.#chunks > 0 ? this.#info() : undefined;
    sections.bootstrap(bootstrap(info));
    const { digest, size } = sections.finish();
    return { path: this.#file.path, digest, size, info, chunkInfo: undefined, original: this.#layer };
  }

  #info(): BlobInfo {
    const { size } = this.#tar;
    if (size % TAR_BLOCK_SIZE !== 0)
      throw new NydusError(
        "unsupported",
        `Cannot leave the files of layer "${this.#layer.digest}" in its tar: it has ${size} bytes, not whole blocks`,
      );
    return {
      ...NOT_RECORDED,
      id: this.blob.id,
      index: 0,
      chunkCount: this.#chunks,
      compressor: "none",
      digester: "sha256",
      features: BLOB_FEATURES.tarfs | BLOB_FEATURES.capTarToc,
      compressedSize: size,
      uncompressedSize: size,
      // Of nothing; the reference's default.
      ciCompressor: "lz4_block",
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
