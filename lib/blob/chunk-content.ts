/**
 * Stored chunks become verified content.
 *
 * @module
 */
import { type ChunkHasher, sameBytes } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { type ChunkMap, chunkAt, chunkDigest, isPieced } from "../rafs/chunk-map.ts";
import type { ChunkRef } from "../tree/tree.ts";
import { ChunkDecoder } from "./chunk-decoder.ts";
import { type ChunkPlace, type StoredChunk, type StoredChunkOptions, storedChunks } from "./stored-chunks.ts";

/** Of each blob it remembers the last stored unit, which the next chunk often shares. */
export class ChunkContents {
  readonly #hasher: ChunkHasher;
  readonly #decoders = new Map<ChunkMap, ChunkDecoder>();

  constructor(hasher: ChunkHasher) {
    this.#hasher = hasher;
  }

  /** @throws corrupt unless the content has the size and the digest that the bootstrap says */
  of({ map, index, stored }: StoredChunk): Uint8Array {
    const decoder = this.#decoders.get(map) ?? new ChunkDecoder(map);
    this.#decoders.set(map, decoder);
    const data = decoder.decode(index, stored);
    if (isPieced(map, index) || sameBytes(this.#hasher.digest(data), chunkDigest(map, index))) return data;
    decoder.forget();
    throw corrupt(`Cannot use chunk ${index} of blob "${map.blobId}": it does not match its digest`);
  }
}

/** Finds a tree's chunks in the maps of their blobs. @throws corrupt when one is in none */
export class ChunkPlaces {
  readonly #maps: ReadonlyMap<string, ChunkMap>;
  readonly #addressOf: (chunk: ChunkRef) => number;

  /**
   * @param maps of two for one blob the last one counts
   * @param addressOf where a chunk begins in the address space of its map
   */
  constructor(maps: Iterable<ChunkMap>, addressOf: (chunk: ChunkRef) => number) {
    this.#maps = new Map(Array.from(maps, (map) => [map.blobId, map]));
    this.#addressOf = addressOf;
  }

  find(chunk: ChunkRef): ChunkPlace {
    const { id } = chunk.blob;
    const map = this.#maps.get(id);
    const address = this.#addressOf(chunk);
    const index = map === undefined ? -1 : chunkAt(map, address);
    if (map !== undefined && map.uncompressedOffset[index] === address) return { map, index };
    throw corrupt(`Cannot find chunk ${chunk.index} of blob "${id}": it is not in the blob's map`);
  }

  *findAll(chunks: Iterable<ChunkRef>): Generator<ChunkPlace, undefined> {
    for (const chunk of chunks) yield this.find(chunk);
  }
}

/** The content of each chunk wanted, in that order. @throws corrupt, and what the fetcher throws */
export async function* readChunks(
  wanted: Iterable<ChunkPlace>,
  hasher: ChunkHasher,
  options: StoredChunkOptions,
): AsyncGenerator<Uint8Array, undefined> {
  const contents = new ChunkContents(hasher);
  for await (const chunk of storedChunks(wanted, options)) yield contents.of(chunk);
}
