/**
 * How stored bytes become chunks: decrypted, expanded, and cut out where several chunks share one stored unit. Digests
 * are the caller's part.
 *
 * @module
 */
import { decompressChunk } from "../base/compression.ts";
import { corrupt } from "../base/error.ts";
import { GZIP_TRAILER, gzipHeaderSize } from "../base/gzip.ts";
import { Inflater, MAX_MATCH } from "../base/inflate.ts";
import { decryptXts } from "../base/xts.ts";
import { type BatchUnit, type ChunkMap, type GzipWindow, NO_UNIT, unitOf } from "../rafs/chunk-map.ts";

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
  return unit.kind === "batch" ? expandBatch(map, unit, decrypted(map, stored)) : expandWindow(unit, stored);
}

function expandBatch(
  { compressor }: ChunkMap,
  { storedSize, size }: BatchUnit,
  stored: Uint8Array,
): Uint8Array {
  return decompressChunk(storedSize === size ? "none" : compressor, stored, size);
}

/** @returns exactly `size` bytes. @throws corrupt */
export function expandWindow(window: GzipWindow, stored: Uint8Array): Uint8Array {
  const { dictionary, size, bits, previousByte } = window;
  const start = dictionary.byteLength;
  const out = new Uint8Array(start + size + MAX_MATCH);
  out.set(dictionary);
  const inflater = new Inflater(out, start, start + size);
  inflater.prime(previousByte, bits);
  let input = stored;
  inflater.feed(input, true);
  for (;;) {
    const step = inflater.step();
    if (step === "output") return out.subarray(start, start + size);
    if (step === "input") throw corrupt("Cannot inflate: unexpected end of file");
    if (step !== "end") continue;
    if (inflater.outPosition >= start + size) return out.subarray(start, start + size);
    input = nextMember(input.subarray(inflater.inPosition));
    inflater.restart();
    inflater.feed(input, true);
  }
}

function nextMember(behind: Uint8Array): Uint8Array {
  const header = behind.subarray(GZIP_TRAILER);
  const size = gzipHeaderSize(header);
  if (size === undefined) throw corrupt("Cannot inflate: unexpected end of file");
  return header.subarray(size);
}
