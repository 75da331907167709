/**
 * Gives the chunks of a layer with a table of contents places in a blob's address space, in which files are cut
 * every so many bytes: a part that is a chunk of the table's is just that, others are put together of several, or cut out
 * of larger ones.
 *
 * @module
 */

import { digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import type { StreamFormat } from "../base/stream-start.ts";
import { viewOf } from "../base/struct.ts";
import { type BlobFile, NOT_RECORDED } from "../blob/blob-writer.ts";
import { ChunkDict } from "../blob/chunk-dict.ts";
import { ENTRY_SIZE_V2, INFO_FLAGS, MAX_COMPRESSED_V2, writeChunkInfoV2 } from "../blob/chunk-info-v2.ts";
import { chunkInfoFile, encodeChunkInfoHeader } from "../blob/compression-info.ts";
import { descriptionDigest, encodePiecesUnits, MAX_PIECES, MAX_PIECES_UNIT } from "../blob/pieces-unit.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type BlobInfo, MAX_CHUNKS } from "../rafs/blob-table.ts";
import type { Piece, PiecesUnit } from "../rafs/chunk-map.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import type { TocChunk } from "./toc.ts";

const BLOCK = 4096;

const FEATURES =
  BLOB_FEATURES.aligned | BLOB_FEATURES.ciVersion2 | BLOB_FEATURES.separate | BLOB_FEATURES.pieces;

interface Unit {
  storedOffset: number;
  /** Of streams with several chunks it grows. */
  unit: PiecesUnit;
}

interface Placed {
  readonly chunk: ChunkRef;
  readonly unit: number;
  readonly unitOffset: number;
}

export class PiecesWriter {
  readonly blob: BlobRef;
  readonly #layer: Descriptor;
  readonly #compressor: StreamFormat;
  readonly #chunkSize: number;
  readonly #units: Unit[] = [];
  /** By offset of the stream: the unit for its chunks that are not put together. */
  readonly #streams = new Map<number, number>();
  readonly #placed: Placed[] = [];
  readonly #dict = new ChunkDict();
  #size = 0;

  constructor(layer: Descriptor, compressor: StreamFormat, chunkSize: number) {
    this.blob = { id: digestHex(layer.digest) };
    this.#layer = layer;
    this.#compressor = compressor;
    this.#chunkSize = chunkSize;
  }

  /** @param chunks all of a file's, in order. @throws unsupported when some cannot be verified in bounded memory */
  add(chunks: readonly TocChunk[], size: number): ChunkRef[] {
    const found: ChunkRef[] = [];
    let first = 0;
    for (let start = 0; start < size; start += this.#chunkSize) {
      const end = Math.min(start + this.#chunkSize, size);
      while (endOf(chunks[first]) <= start) first++;
      let last = first;
      while (endOf(chunks[last]) < end) last++;
      found.push(this.#part(chunks.slice(first, last + 1), start, end - start));
    }
    return found;
  }

  #part(chunks: readonly TocChunk[], start: number, length: number): ChunkRef {
    const [only] = chunks;
    if (chunks.length === 1 && only?.fileOffset === start && only.size === length)
      return this.#dict.find(only.digest, length) ?? this.#whole(only);
    return this.#cut(chunks, start, length);
  }

  #whole(chunk: TocChunk): ChunkRef {
    const { offset, end, skip, size, digest } = chunk;
    const needed = skip + size;
    let index = this.#streams.get(offset);
    const known = index === undefined ? undefined : this.#units[index];
    const expanded = Math.max(needed, known?.unit.size ?? 0);
    const pieces: readonly Piece[] = [
      { offset: 0, storedSize: end - offset, skip: 0, size: expanded, digest: undefined },
    ];
    const unit = checked({ kind: "pieces", storedSize: end - offset, size: expanded, pieces });
    if (index === undefined || known === undefined) {
      index = this.#units.push({ storedOffset: offset, unit }) - 1;
      this.#streams.set(offset, index);
    } else known.unit = unit;
    const placed = this.#place(index, skip, size, digest);
    this.#dict.add(placed);
    return placed;
  }

  #cut(chunks: readonly TocChunk[], start: number, length: number): ChunkRef {
    const base = Math.min(...chunks.map(({ offset }) => offset));
    const storedSize = Math.max(...chunks.map(({ end }) => end)) - base;
    const pieces = chunks.map(({ offset, end, skip, size, digest }) => ({
      offset: offset - base,
      storedSize: end - offset,
      skip,
      size,
      digest,
    }));
    const size = pieces.reduce((sum, piece) => sum + piece.size, 0);
    const unit = checked({ kind: "pieces", storedSize, size, pieces });
    const unitOffset = start - (chunks[0]?.fileOffset ?? 0);
    // Parts of one chunk of the table share its unit.
    const last = this.#units.at(-1);
    const shared =
      last !== undefined && chunks.length === 1 && last.storedOffset === base && samePieces(last.unit, unit);
    const index = shared ? this.#units.length - 1 : this.#units.push({ storedOffset: base, unit }) - 1;
    const digest = descriptionDigest(unit, { storedOffset: base, unitOffset, size: length });
    return this.#place(index, unitOffset, length, digest);
  }

  #place(unit: number, unitOffset: number, size: number, digest: Uint8Array): ChunkRef {
    if (this.#placed.length + 1 >= MAX_CHUNKS) throw unusable(`it has more than ${MAX_CHUNKS - 1} chunks`);
    const { storedOffset = 0, unit: found } = this.#units[unit] ?? {};
    const chunk: ChunkRef = {
      blob: this.blob,
      index: this.#placed.length,
      compressedOffset: storedOffset,
      compressedSize: Math.min(found?.storedSize ?? 0, MAX_COMPRESSED_V2),
      uncompressedOffset: this.#size,
      uncompressedSize: size,
      compressed: true,
      digest,
      crc: 0,
    };
    this.#size += alignUp(size, BLOCK);
    this.#placed.push({ chunk, unit, unitOffset });
    return chunk;
  }

  /** A blob file without a file: its data is the layer, and the compression information goes beside the bootstrap. */
  finish(): BlobFile {
    const { digest, size } = this.#layer;
    const file = { path: "", digest, size, original: this.#layer };
    const count = this.#placed.length;
    if (count === 0) return { ...file, info: undefined, chunkInfo: undefined };
    const units = encodePiecesUnits(this.#units.map(({ unit }) => unit));
    const array = Buffer.concat([this.#entries(), units]);
    const place = {
      ciCompressor: "none",
      ciOffset: size,
      ciCompressedSize: array.byteLength,
      ciUncompressedSize: array.byteLength,
    } as const;
    const header = encodeChunkInfoHeader({
      features: FEATURES,
      compressor: place.ciCompressor,
      entries: count,
      offset: place.ciOffset,
      compressedSize: array.byteLength,
      uncompressedSize: array.byteLength,
      contextOffset: count * ENTRY_SIZE_V2,
      contextSize: units.byteLength,
      contexts: this.#units.length,
    });
    const info: BlobInfo = {
      ...NOT_RECORDED,
      ...place,
      id: this.blob.id,
      index: 0,
      chunkCount: count,
      compressor: this.#compressor,
      digester: "sha256",
      features: FEATURES,
      compressedSize: size,
      uncompressedSize: this.#size,
    };
    return { ...file, info, chunkInfo: chunkInfoFile(array, header) };
  }

  #entries(): Uint8Array {
    const array = new Uint8Array(this.#placed.length * ENTRY_SIZE_V2);
    const view = viewOf(array);
    const flags = INFO_FLAGS.compressed | INFO_FLAGS.batch;
    for (const [i, { chunk, unit, unitOffset }] of this.#placed.entries())
      writeChunkInfoV2(view, i * ENTRY_SIZE_V2, { ...chunk, flags, unit, unitOffset, crc: 0 });
    return array;
  }
}

function endOf(chunk: TocChunk | undefined): number {
  return chunk === undefined ? Number.POSITIVE_INFINITY : chunk.fileOffset + chunk.size;
}

function samePieces(a: PiecesUnit, b: PiecesUnit): boolean {
  const [x, y] = [a.pieces[0], b.pieces[0]];
  return a.pieces.length === 1 && x?.digest !== undefined && x.digest === y?.digest && x.skip === y.skip;
}

function checked(unit: PiecesUnit): PiecesUnit {
  const { storedSize, size, pieces } = unit;
  const most = Math.max(storedSize, size, ...pieces.map((piece) => piece.skip + piece.size));
  if (most > MAX_PIECES_UNIT)
    throw unusable(`${most} bytes would have to be held in memory to read one chunk`);
  if (pieces.length > MAX_PIECES) throw unusable(`one part of a file has ${pieces.length} chunks`);
  return unit;
}

function unusable(state: string): NydusError {
  return new NydusError("unsupported", `Cannot use a table of contents: ${state}`);
}
