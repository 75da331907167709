/**
 * How stored bytes become chunks: decrypted, expanded, and cut out where several chunks share one stored unit. Digests
 * of chunks are the caller's part; pieces that have their own are checked here.
 *
 * @module
 */
import { decompressChunk } from "../base/compression.ts";
import { sameBytes, sha256 } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { Inflater, MAX_MATCH } from "../base/inflate.ts";
import { inflateOn, streamStart } from "../base/stream-start.ts";
import { decryptXts } from "../base/xts.ts";
import {
  type BatchUnit,
  type ChunkMap,
  type GzipWindow,
  NO_UNIT,
  type PiecesUnit,
  unitOf,
} from "../rafs/chunk-map.ts";

/** Remembers the last unit, so that chunks decoded in order expand each unit once. */
export class ChunkDecoder {
  readonly #map: ChunkMap;
  #unit = NO_UNIT;
  #expanded: Uint8Array = new Uint8Array(0);

  constructor(map: ChunkMap) {
    this.#map = map;
  }

  /** The unit was damaged: the next chunk brings it again. */
  forget(): void {
    this.#unit = NO_UNIT;
  }

  /**
   * @param stored what lies at the chunk's compressed range; unused when the chunk is in the unit of the one before
   * @throws corrupt
   */
  decode(chunk: number, stored: Uint8Array): Uint8Array {
    const map = this.#map;
    const length = map.uncompressedLength[chunk] ?? 0;
    const unit = unitOf(map, chunk);
    if (unit === NO_UNIT)
      return decompressChunk(
        map.compressed[chunk] === 1 ? map.compressor : "none",
        decrypted(map, stored),
        length,
      );
    if (unit !== this.#unit) {
      this.forget();
      this.#expanded = expand(map, unit, stored);
      this.#unit = unit;
    }
    const offset = map.units?.offsetIn[chunk] ?? 0;
    // A copy: what is kept of a chunk must not keep its whole unit.
    return this.#expanded.slice(offset, offset + length);
  }
}

function decrypted({ cipher }: ChunkMap, stored: Uint8Array): Uint8Array {
  return cipher === undefined ? stored : decryptXts(cipher.key, cipher.iv, stored);
}

function expand(map: ChunkMap, index: number, stored: Uint8Array): Uint8Array {
  const unit = map.units?.units[index];
  if (unit === undefined) throw corrupt(`Cannot decode unit ${index} of blob "${map.blobId}": there is none`);
  switch (unit.kind) {
    case "batch":
      return expandBatch(map, unit, decrypted(map, stored));
    case "window":
      return expandWindow(unit, stored);
    case "pieces":
      return expandPieces(map, unit, stored);
  }
}

/** @param stored decrypted: encrypting makes a batch of less than a cipher block longer */
function expandBatch({ compressor }: ChunkMap, { size }: BatchUnit, stored: Uint8Array): Uint8Array {
  return decompressChunk(stored.byteLength === size ? "none" : compressor, stored, size);
}

/** @returns exactly `size` bytes. @throws corrupt */
export function expandWindow(window: GzipWindow, stored: Uint8Array): Uint8Array {
  const { dictionary, size, bits, previousByte } = window;
  const start = dictionary.byteLength;
  const out = new Uint8Array(start + size + MAX_MATCH);
  out.set(dictionary);
  const inflater = new Inflater(out, start, start + size);
  inflater.prime(previousByte, bits);
  return inflateOn(inflater, stored, size);
}

/** @returns what the pieces expand to, one after the other. @throws corrupt also when one does not match its digest */
function expandPieces({ compressor, blobId }: ChunkMap, unit: PiecesUnit, stored: Uint8Array): Uint8Array {
  if (compressor !== "gzip" && compressor !== "zstd")
    throw corrupt(`Cannot decode pieces of blob "${blobId}": they are compressed by ${compressor}`);
  const out = new Uint8Array(unit.size);
  let at = 0;
  for (const { offset, storedSize, skip, size, digest } of unit.pieces) {
    const stream = stored.subarray(offset, offset + storedSize);
    const data = streamStart(compressor, stream, skip + size).subarray(skip);
    if (digest !== undefined && !sameBytes(sha256(data), digest))
      throw corrupt(`Cannot use a chunk of layer "${blobId}": it does not match its digest`);
    out.set(data, at);
    at += size;
  }
  return out;
}
