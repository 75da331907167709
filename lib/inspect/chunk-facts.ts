/**
 * Single chunks of an image: where they lie, what they hold, which files use them.
 *
 * @module
 */
import { printable } from "../base/byte-string.ts";
import { NydusError } from "../base/error.ts";
import { ChunkPlaces } from "../blob/chunk-content.ts";
import type { ChunkPlace } from "../blob/stored-chunks.ts";
import type { NydusImage } from "../image/nydus-image.ts";
import { NO_UNIT, unitOf } from "../rafs/chunk-map.ts";
import { chunkAddress } from "../rafs/image.ts";
import type { ChunkRef } from "../tree/tree.ts";
import { visits } from "../tree/walk.ts";

/** A chunk as the bootstrap describes it. */
export interface ChunkFacts {
  /** Hex digest of the blob. */
  readonly blob: string;
  /** Ordinal in the blob. */
  readonly index: number;
  /** Hex, of the uncompressed chunk, by the image's digester; bootstraps over plain tars have none. */
  readonly digest?: string;
  /** CRC-32C of the same, when it is recorded. */
  readonly crc?: number;
  /** Whether it is stored compressed. */
  readonly compressed: boolean;
  /** In the stored blob. Of a chunk in a unit: the unit's, once the blob's own table has been read; else 0. */
  readonly compressedOffset: number;
  readonly compressedSize: number;
  /** In the blob's uncompressed address space. */
  readonly uncompressedOffset: number;
  readonly uncompressedSize: number;
}

export interface FoundChunk extends ChunkFacts {
  /** What it is cut out of: a batch of chunks, a stretch of an original gzip layer, or streams of one that
   * has a table of contents. */
  readonly unit?: {
    readonly kind: "batch" | "window" | "pieces";
    readonly index: number;
    /** Where the chunk begins in what the unit expands to. */
    readonly offset: number;
    readonly storedSize: number;
    readonly size: number;
  };
  /** Names of files that hold it. */
  readonly users: number;
  /** Some of them. */
  readonly paths: readonly string[];
}

/** Which chunk: by its ordinal, or by a byte of the stored blob that lies in it. */
export type ChunkWish =
  | { readonly blob: string; readonly index: number }
  | { readonly blob: string; readonly offset: number };

const WISH = /^([0-9a-f]+)([:@])(\d+)$/;

/**
 * @param text `BLOB:INDEX` or `BLOB@OFFSET`; the blob by its position in the blob table, or by how its id begins (four
 *   digits or more)
 * @throws usage
 */
export function parseChunkWish(text: string, blobs: readonly { readonly id: string }[]): ChunkWish {
  const [, name = "", separator, digits] = WISH.exec(text.toLowerCase()) ?? [];
  const number = Number(digits);
  if (!Number.isSafeInteger(number))
    throw new NydusError("usage", `Cannot use chunk "${text}": say BLOB:INDEX or BLOB@OFFSET`);
  const byPosition = /^\d{1,3}$/.test(name) ? blobs[Number(name)] : undefined;
  const byId = name.length < 4 ? [] : blobs.filter(({ id }) => id.startsWith(name));
  const [found] = byPosition === undefined ? byId : [byPosition];
  if (found === undefined || byId.length > 1) {
    const state = byId.length > 1 ? "several blobs begin so" : "the image has no such blob";
    throw new NydusError("usage", `Cannot use blob "${name}": ${state}`);
  }
  return separator === ":" ? { blob: found.id, index: number } : { blob: found.id, offset: number };
}

export function chunkFacts(chunk: ChunkRef): ChunkFacts {
  const { blob, digest, crc, ...rest } = chunk;
  return {
    blob: blob.id,
    ...(digest.every((byte) => byte === 0) ? {} : { digest: Buffer.from(digest).toString("hex") }),
    ...(crc === 0 ? {} : { crc }),
    ...rest,
  };
}

/** A chunk of zeros may have a million users. */
const MAX_PATHS = 10;

/** The chunks that are meant; several when they share stored bytes. @throws not_found, and what the source throws */
export async function findChunks(
  image: NydusImage,
  wish: ChunkWish,
  signal?: AbortSignal,
): Promise<FoundChunk[]> {
  const places = new ChunkPlaces(await image.chunkMaps(signal), (chunk) =>
    chunkAddress(image.bootstrap, chunk),
  );
  const judged = new Map<ChunkRef, Users | undefined>();
  for (const visit of visits(image.root)) {
    if (visit.kind === "leave" || visit.node.kind !== "file") continue;
    for (const chunk of visit.node.chunks) {
      if (chunk.blob.id !== wish.blob) continue;
      const users = judged.has(chunk) ? judged.get(chunk) : usersOf(chunk, places.find(chunk), wish);
      judged.set(chunk, users);
      users?.add(`/${printable(visit.path)}`);
    }
  }
  const found = [...judged].flatMap(([chunk, users]) =>
    users === undefined ? [] : [foundChunk(chunk, users)],
  );
  if (found.length > 0) return found.sort((a, b) => a.index - b.index);
  const where = "index" in wish ? `chunk ${wish.index}` : `a chunk at byte ${wish.offset}`;
  throw new NydusError("not_found", `Cannot find ${where} of blob "${wish.blob}": the image uses none there`);
}

class Users {
  readonly place: ChunkPlace;
  readonly paths: string[] = [];
  count = 0;
  #last: string | undefined;

  constructor(place: ChunkPlace) {
    this.place = place;
  }

  /** A file that repeats the chunk counts once. */
  add(path: string): void {
    if (path === this.#last) return;
    this.#last = path;
    this.count++;
    if (this.paths.length < MAX_PATHS) this.paths.push(path);
  }
}

function usersOf(chunk: ChunkRef, place: ChunkPlace, wish: ChunkWish): Users | undefined {
  if ("index" in wish) return chunk.index === wish.index ? new Users(place) : undefined;
  const { map, index } = place;
  const start = map.compressedOffset[index] ?? 0;
  const end = start + (map.compressedLength[index] ?? 0);
  return start <= wish.offset && wish.offset < end ? new Users(place) : undefined;
}

function foundChunk(chunk: ChunkRef, { place, count, paths }: Users): FoundChunk {
  const { map, index } = place;
  const unit = unitOf(map, index);
  const whole = unit === NO_UNIT ? undefined : map.units?.units[unit];
  const offset = map.units?.offsetIn[index] ?? 0;
  return {
    ...chunkFacts(chunk),
    compressedOffset: map.compressedOffset[index] ?? 0,
    compressedSize: map.compressedLength[index] ?? 0,
    compressed: map.compressed[index] === 1,
    ...(whole && {
      unit: { kind: whole.kind, index: unit, offset, storedSize: whole.storedSize, size: whole.size },
    }),
    users: count,
    paths,
  };
}
