/**
 * The chunks that a cache file knows, in typed arrays: with an object for each, they were most of what a mount takes.
 *
 * @module
 */
import { sameBytes } from "../base/digest.ts";
import { type ChunkMap, chunkAt } from "../rafs/chunk-map.ts";
import { CHUNK_STATES, type ChunkState, type Claim } from "./claims.ts";

/** What does not change of a chunk; arrays as in a `ChunkMap`. */
type Places = Pick<ChunkMap, "count" | "uncompressedOffset" | "uncompressedLength" | "digests">;

/** Stands for no slot. */
const NONE = -1;

/** By offset, ascending. Chunks are named by their position until more of them become known. */
export class KnownChunks {
  readonly #places: Places;
  readonly #states: Uint8Array;
  readonly #slots: Int32Array;

  private constructor({ count, uncompressedOffset, uncompressedLength, digests }: Places) {
    this.#places = { count, uncompressedOffset, uncompressedLength, digests };
    this.#states = new Uint8Array(count);
    this.#slots = new Int32Array(count).fill(NONE);
  }

  /** @param claims of chunks that do not overlap */
  static of(claims: readonly Claim[]): KnownChunks {
    const sorted = [...claims].sort((a, b) => a.offset - b.offset);
    const known = new KnownChunks(emptyPlaces(sorted.length));
    const { uncompressedOffset, uncompressedLength, digests } = known.#places;
    for (const [i, { offset, length, digest, ...claim }] of sorted.entries()) {
      uncompressedOffset[i] = offset;
      uncompressedLength[i] = length;
      digests.set(digest, 32 * i);
      known.set(i, claim);
    }
    return known;
  }

  /** These, and those of the map that are new, which are absent. Precondition: they do not overlap. */
  with(map: ChunkMap): KnownChunks {
    if (this.count === 0) return new KnownChunks(map);
    const news: number[] = [];
    for (let i = 0; i < map.count; i++) if (this.find(map.uncompressedOffset[i] ?? 0) < 0) news.push(i);
    if (news.length === 0) return this;
    const all = new KnownChunks(emptyPlaces(this.count + news.length));
    let from = 0;
    let to = 0;
    const keepBefore = (end: number): void => {
      for (; from < this.count && this.offset(from) < end; from++, to++) {
        copyPlace(this.#places, from, all.#places, to);
        all.set(to, this.at(from));
      }
    };
    for (const i of news) {
      keepBefore(map.uncompressedOffset[i] ?? 0);
      copyPlace(map, i, all.#places, to++);
    }
    keepBefore(Infinity);
    return all;
  }

  get count(): number {
    return this.#places.count;
  }

  offset(i: number): number {
    return this.#places.uncompressedOffset[i] ?? 0;
  }

  length(i: number): number {
    return this.#places.uncompressedLength[i] ?? 0;
  }

  end(i: number): number {
    return this.offset(i) + this.length(i);
  }

  state(i: number): ChunkState {
    return CHUNK_STATES[this.#states[i] ?? 0] ?? "absent";
  }

  at(i: number): Claim {
    const { digests } = this.#places;
    const slot = this.#slots[i] ?? NONE;
    return {
      offset: this.offset(i),
      length: this.length(i),
      digest: digests.subarray(32 * i, 32 * i + 32),
      state: this.state(i),
      slot: slot === NONE ? undefined : slot,
    };
  }

  set(i: number, { state, slot }: Pick<Claim, "state" | "slot">): void {
    this.#states[i] = CHUNK_STATES.indexOf(state);
    this.#slots[i] = slot ?? NONE;
  }

  isSame(i: number, length: number, digest: Uint8Array): boolean {
    return this.length(i) === length && sameBytes(this.at(i).digest, digest);
  }

  /** The chunk that starts there, or -1. */
  find(offset: number): number {
    const i = chunkAt(this.#places, offset);
    return i >= 0 && this.offset(i) === offset ? i : -1;
  }

  /** Positions of those that start in [start, end). */
  between(start: number, end: number): number[] {
    const first = chunkAt(this.#places, start - 1) + 1;
    const found: number[] = [];
    for (let i = first; i < this.count && this.offset(i) < end; i++) found.push(i);
    return found;
  }
}

function emptyPlaces(count: number): Places {
  return {
    count,
    uncompressedOffset: new Float64Array(count),
    uncompressedLength: new Uint32Array(count),
    digests: new Uint8Array(32 * count),
  };
}

function copyPlace(from: Places, i: number, to: Places, at: number): void {
  to.uncompressedOffset[at] = from.uncompressedOffset[i] ?? 0;
  to.uncompressedLength[at] = from.uncompressedLength[i] ?? 0;
  to.digests.set(from.digests.subarray(32 * i, 32 * i + 32), 32 * at);
}
