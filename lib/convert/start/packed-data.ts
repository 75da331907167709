/**
 * Content of files out of blobs that lie in the work directory, before they are sent.
 *
 * @module
 */
import { closeSync, openSync, readSync } from "node:fs";
import { decompressChunk } from "../../base/compression.ts";
import type { BlobRef, ChunkRef, RegularFile } from "../../tree/tree.ts";
import type { PackedContent } from "../packer.ts";

/** Chunks that are kept: headers of a program are read in several steps. */
const KEPT = 16;

export class PackedData implements Disposable {
  readonly #layers: ReadonlyMap<BlobRef, PackedContent>;
  readonly #chunkSize: number;
  readonly #open = new Map<BlobRef, number>();
  readonly #kept = new Map<ChunkRef, Uint8Array>();

  constructor(layers: readonly PackedContent[], chunkSize: number) {
    this.#layers = new Map(layers.map((layer) => [layer.blob, layer]));
    this.#chunkSize = chunkSize;
  }

  /** Undefined for what is compressed together with others, encrypted, or in no blob of ours. */
  read(file: RegularFile, offset: number, length: number): Uint8Array | undefined {
    const parts: Uint8Array[] = [];
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const chunk = file.chunks[Math.floor(at / this.#chunkSize)];
      const data = chunk && this.#content(chunk);
      const start = at % this.#chunkSize;
      const part = data?.subarray(start, Math.min(data.byteLength, start + end - at));
      if (part === undefined || part.byteLength === 0) return undefined;
      parts.push(part);
      at += part.byteLength;
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }

  #content(chunk: ChunkRef): Uint8Array | undefined {
    const kept = this.#kept.get(chunk);
    if (kept !== undefined) return kept;
    const layer = this.#layers.get(chunk.blob);
    const info = layer?.file.info;
    if (layer === undefined || info === undefined || layer.file.original !== undefined) return undefined;
    if (info.cipher !== undefined || chunk.compressedSize === 0) return undefined;
    const stored = Buffer.allocUnsafe(chunk.compressedSize);
    readFully(this.#file(layer), stored, chunk.compressedOffset);
    const data = chunk.compressed ? decompressChunk(info.compressor, stored, chunk.uncompressedSize) : stored;
    const [oldest] = this.#kept.keys();
    if (this.#kept.size >= KEPT && oldest !== undefined) this.#kept.delete(oldest);
    this.#kept.set(chunk, data);
    return data;
  }

  #file({ blob, file }: PackedContent): number {
    const fd = this.#open.get(blob) ?? openSync(file.path, "r");
    this.#open.set(blob, fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) closeSync(fd);
  }
}

function readFully(fd: number, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.byteLength; ) {
    const count = readSync(fd, into, done, into.byteLength - done, offset + done);
    if (count === 0) throw new RangeError("Cannot read a chunk: the blob file is shorter");
    done += count;
  }
}
