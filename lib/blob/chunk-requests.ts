/**
 * Asks a blob's source for chunks as they are stored, and believes what comes only if it is what the digest says: what
 * was damaged on its way is asked for again, and elsewhere if there is another place.
 *
 * @module
 */
import { type ChunkHasher, digestFromHex, sameBytes } from "../base/digest.ts";
import { corrupt, toNydusError } from "../base/error.ts";
import { ExactReader } from "../base/exact-reader.ts";
import type { Logger } from "../base/log.ts";
import type { Fetcher, FetchOptions } from "../content/content.ts";
import { MEDIA } from "../oci/media-types.ts";
import { type ChunkMap, chunkDigest, isPieced } from "../rafs/chunk-map.ts";
import type { ChunkDecoder } from "./chunk-decoder.ts";
import type { StoredChunk } from "./decode-threads.ts";
import type { SourceCost } from "./read-ahead.ts";

/** A chunk that fails its digest is asked for again, alone, this often before readers get an error. */
const EXTRA_ATTEMPTS = 2;

/** Those that gave bytes of an answer, by name. */
export type Places = Set<string>;

export interface RequestCounters {
  /** Requests, unless one was retried. */
  runs: number;
  /** Chunks that failed their digest and were asked for again. */
  corruptChunks: number;
}

interface Source {
  readonly map: ChunkMap;
  readonly fetcher: Fetcher;
  readonly hasher: ChunkHasher;
  readonly cost: SourceCost;
  readonly counters: RequestCounters;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

export class ChunkRequests {
  readonly #source: Source;

  constructor(source: Source) {
    this.#source = source;
  }

  /**
   * The stored bytes from the first chunk's start to the last one's end.
   *
   * @param places gets the name of each place that gives some of them
   */
  async ask(first: number, last: number, places: Places, how: FetchOptions): Promise<ExactReader> {
    const { map, fetcher, cost, counters, signal } = this.#source;
    const start = map.compressedOffset[first] ?? 0;
    const end = (map.compressedOffset[last] ?? 0) + (map.compressedLength[last] ?? 0);
    counters.runs++;
    const descriptor = {
      mediaType: MEDIA.nydusBlob,
      digest: digestFromHex(map.blobId),
      size: map.compressedSize,
    };
    const asked = performance.now();
    const from = (place: string): void => void places.add(place);
    const body = await fetcher.fetch(descriptor, { ...how, range: { start, end }, from, signal });
    cost.answered(performance.now() - asked);
    return new ExactReader(body);
  }

  /**
   * Damaged in transit is not damaged at the source: asks again before giving up.
   *
   * @param places those that gave the chunk
   */
  async verified(arrived: StoredChunk, decoder: ChunkDecoder, places: Places): Promise<Uint8Array> {
    const { map, counters, log } = this.#source;
    const { chunk } = arrived;
    const tried: Places = new Set(places);
    let { stored } = arrived;
    for (let attempt = 0; ; attempt++) {
      try {
        return this.#checked(chunk, decoder.decode(chunk, stored));
      } catch (error) {
        counters.corruptChunks++;
        log.warn(toNydusError(error, "decode a chunk").message, { blob: map.blobId, chunk });
        if (attempt === EXTRA_ATTEMPTS) throw error;
        await using body = await this.ask(chunk, chunk, tried, { damaged: [...tried] });
        stored = await body.take(stored.byteLength);
        decoder.forget();
      }
    }
  }

  #checked(chunk: number, data: Uint8Array): Uint8Array {
    const { map, hasher } = this.#source;
    if (isPieced(map, chunk) || sameBytes(hasher.digest(data), chunkDigest(map, chunk))) return data;
    throw corrupt(`Cannot use chunk ${chunk} of blob "${map.blobId}": it does not match its digest`);
  }
}
