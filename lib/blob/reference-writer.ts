/**
 * Writes the blob of a layer whose data stays where it is, in the original gzip (or plain) tar: where its chunks are,
 * from which places the gzip file can be entered, their digests, and the layer's own bootstrap.
 *
 * @module
 */
import { type ChunkHasher, digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { viewOf } from "../base/struct.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type BlobInfo, MAX_CHUNKS } from "../rafs/blob-table.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import { BlobSections } from "./blob-sections.ts";
import { type BlobFile, type ChunkOrigin, NOT_RECORDED } from "./blob-writer.ts";
import { ChunkDict } from "./chunk-dict.ts";
import { ENTRY_SIZE_V2, INFO_FLAGS, writeChunkInfoV2 } from "./chunk-info-v2.ts";
import { DigestSlabs } from "./digest-slabs.ts";
import { type GzipIndex, inputOf, type PlacedWindow, placeInWindows } from "./gzip-windows.ts";
import { HashedFile } from "./hashed-file.ts";
import { encodeWindows } from "./stored-unit.ts";

const ALIGNMENT = 4096;

const FEATURES =
  BLOB_FEATURES.aligned |
  BLOB_FEATURES.inlinedBootstrap |
  BLOB_FEATURES.ciVersion2 |
  BLOB_FEATURES.separate |
  BLOB_FEATURES.inlinedDigests |
  BLOB_FEATURES.tarHeaders |
  BLOB_FEATURES.toc |
  BLOB_FEATURES.capTarToc;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class ReferenceWriter implements Disposable {
  readonly blob: BlobRef;
  /** Nothing is compressed here: there is always room. */
  readonly full = false;
  readonly #file: HashedFile;
  readonly #hasher: ChunkHasher;
  readonly #layer: Descriptor;
  readonly #index: GzipIndex | undefined;
  readonly #dict = new ChunkDict();
  readonly #digests = new DigestSlabs();
  readonly #chunks: Mutable<ChunkRef>[] = [];
  /** By chunk: where it is in the tar. */
  readonly #places: number[] = [];
  #uncompressedSize = 0;

  /**
   * @param path of the blob; there is no such file yet
   * @param layer the original
   * @param index complete when `finish` is called; undefined when the layer is not compressed
   */
  constructor(path: string, layer: Descriptor, index: GzipIndex | undefined, hasher: ChunkHasher) {
    this.#file = new HashedFile(path);
    this.#layer = layer;
    this.#index = index;
    this.#hasher = hasher;
    this.blob = { id: digestHex(layer.digest) };
  }

  async room(): Promise<void> {}

  /** The compressed offset and size of what is returned are only final when the blob is finished. */
  add(bytes: Uint8Array, { tarOffset }: Pick<ChunkOrigin, "tarOffset">): ChunkRef {
    const digest = this.#hasher.digest(bytes);
    const known = this.#dict.find(digest, bytes.byteLength);
    if (known !== undefined) return known;
    const chunk: Mutable<ChunkRef> = {
      blob: this.blob,
      index: this.#chunks.length,
      compressedOffset: tarOffset,
      compressedSize: bytes.byteLength,
      uncompressedOffset: this.#uncompressedSize,
      uncompressedSize: bytes.byteLength,
      compressed: this.#index !== undefined,
      digest: this.#digests.keep(digest),
      crc: 0,
    };
    if (this.#chunks.length + 1 >= MAX_CHUNKS)
      throw new NydusError(
        "unsupported",
        `Cannot refer to a layer: it has more than ${MAX_CHUNKS - 1} chunks`,
      );
    this.#uncompressedSize += alignUp(bytes.byteLength, ALIGNMENT);
    this.#chunks.push(chunk);
    this.#places.push(tarOffset);
    this.#dict.add(chunk);
    return chunk;
  }

  /** As `BlobWriter.finish`. */
  async finish(bootstrap: (blob: BlobInfo | undefined) => Uint8Array): Promise<BlobFile> {
    const sections = new BlobSections(this.#file);
    const info = this.#chunks.length > 0 ? this.#writeInfo(sections) : undefined;
    sections.bootstrap(bootstrap(info));
    const { digest, size } = sections.finish();
    const metaDigest = Buffer.from(digestHex(digest), "hex");
    const features = FEATURES & ~BLOB_FEATURES.inlinedBootstrap;
    return {
      path: this.#file.path,
      digest,
      size,
      info: info && {
        ...info,
        features: features | (info.features & BLOB_FEATURES.zran),
        metaDigest,
        metaSize: size,
      },
      // It can be as large as all the rest: who mounts fetches it from the blob.
      chunkInfo: undefined,
      original: this.#layer,
    };
  }

  #writeInfo(sections: BlobSections): BlobInfo {
    const count = this.#chunks.length;
    const index = this.#index;
    const features = FEATURES | (index === undefined ? 0 : BLOB_FEATURES.zran);
    const windows = index === undefined ? [] : this.#placeInWindows(index);
    const units = encodeWindows(windows.map(({ window }) => window));
    const contexts = {
      contextOffset: count * ENTRY_SIZE_V2,
      contextSize: units.byteLength,
      contexts: windows.length,
    };
    const array = Buffer.concat([this.#entries(windows), units]);
    const section = { features, count, array, ...(windows.length === 0 ? {} : { contexts }) };
    const { place } = sections.chunkInfo(section, "zstd");
    sections.digests(this.#chunks);
    return {
      ...place,
      ...NOT_RECORDED,
      id: this.blob.id,
      index: 0,
      chunkCount: count,
      compressor: index === undefined ? "none" : "gzip",
      digester: this.#hasher.algorithm,
      features,
      compressedSize: this.#layer.size,
      uncompressedSize: this.#uncompressedSize,
    };
  }

  /** Also says of chunks what input they take. */
  #placeInWindows(index: GzipIndex): PlacedWindow[] {
    const parts = this.#chunks.map((chunk, i) => ({
      start: this.#places[i] ?? 0,
      length: chunk.uncompressedSize,
    }));
    const placed = placeInWindows(parts, index);
    for (const { window, first, end } of placed)
      for (let i = first; i < end; i++) {
        const chunk = this.#chunks[i];
        const part = parts[i];
        if (chunk === undefined || part === undefined) continue;
        const input = inputOf(part, window, index);
        chunk.compressedOffset = input.offset;
        chunk.compressedSize = input.size;
      }
    return placed;
  }

  #entries(windows: readonly PlacedWindow[]): Uint8Array {
    const array = new Uint8Array(this.#chunks.length * ENTRY_SIZE_V2);
    const view = viewOf(array);
    let unit = 0;
    for (const [i, chunk] of this.#chunks.entries()) {
      while ((windows[unit]?.end ?? Number.POSITIVE_INFINITY) <= i) unit++;
      const window = windows[unit]?.window;
      const place =
        window === undefined
          ? { flags: 0, unit: 0, unitOffset: 0 }
          : {
              flags: INFO_FLAGS.compressed | INFO_FLAGS.zran,
              unit,
              unitOffset: (this.#places[i] ?? 0) - window.outOffset,
            };
      writeChunkInfoV2(view, i * ENTRY_SIZE_V2, { ...chunk, ...place, crc: 0 });
    }
    return array;
  }

  /** Closes the file; removing it is for whoever owns the directory. */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
