/**
 * Chunks that blobs of other images hold already: a new image refers to them instead of storing them again. One table
 * on shared memory serves all packing threads.
 *
 * @module
 */
import { byteString } from "../base/byte-string.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { readChunks } from "../rafs/chunk-maps.ts";
import { chunkRecord } from "../rafs/chunk-record.ts";
import { CHUNK_FLAGS } from "../rafs/flags.ts";
import type { RafsImage } from "../rafs/image.ts";
import { packedInfo } from "../rafs/v5/blob-table.ts";
import { chunkRecords } from "../rafs/v5/chunk-maps.ts";
import type { BlobRef, ChunkRef } from "../tree/tree.ts";
import { DigestSlabs } from "./digest-slabs.ts";

const R = chunkRecord.fields;
const DIGEST_SIZE = 32;

/** Moves between threads without being copied. */
export interface DictionaryTable {
  /** Each once; `index` means nothing here. */
  readonly blobs: readonly BlobInfo[];
  /** Chunk records, one a digest, in the order of digests. Their `blob` counts in `blobs`. */
  readonly records: SharedArrayBuffer;
}

/**
 * Where several bootstraps have a chunk, the first one says where it is.
 *
 * @param bootstraps all of one version
 * @param minImages leave out chunks that fewer bootstraps have
 * @throws corrupt when a bootstrap's chunk table makes no sense
 */
export function dictionaryTable(bootstraps: readonly RafsImage[], minImages = 1): DictionaryTable {
  const blobs = new Map<string, BlobInfo>();
  const chosen = new Map<string, Chosen>();
  for (const bootstrap of bootstraps) {
    for (const blob of bootstrap.blobs)
      if (!blobs.has(blob.id)) blobs.set(blob.id, "packedSize" in blob ? packedInfo(blob) : blob);
    for (const at of recordsOf(bootstrap)) {
      const key = byteString(R.digest.read(bootstrap.view, at));
      const known = chosen.get(key);
      if (known === undefined) chosen.set(key, { bootstrap, at, images: 1, last: bootstrap });
      else if (known.last !== bootstrap) {
        known.images++;
        known.last = bootstrap;
      }
    }
  }
  for (const [key, { images }] of chosen) if (images < minImages) chosen.delete(key);
  const position = new Map([...blobs.keys()].map((id, i) => [id, i]));
  const records = new SharedArrayBuffer(chosen.size * chunkRecord.size);
  const bytes = new Uint8Array(records);
  const view = new DataView(records);
  let to = 0;
  for (const key of [...chosen.keys()].sort()) {
    const { bootstrap, at } = chosen.get(key) ?? {};
    if (bootstrap === undefined || at === undefined) continue;
    bytes.set(bootstrap.bytes.subarray(at, at + chunkRecord.size), to);
    const { id = "" } = bootstrap.blobs[R.blob.read(bootstrap.view, at)] ?? {};
    R.blob.write(view, to, position.get(id) ?? 0);
    to += chunkRecord.size;
  }
  return { blobs: [...blobs.values()], records };
}

/** Offsets of chunk records, proven to lie inside their blobs. */
function* recordsOf(image: RafsImage): Generator<number> {
  if (image.version === 5) {
    yield* chunkRecords(image);
    return;
  }
  readChunks(image);
  const { offset, size } = image.superblock.chunkTable;
  for (let at = offset; at < offset + size; at += chunkRecord.size) yield at;
}

/** A chunk record of one bootstrap. */
interface Chosen {
  readonly bootstrap: RafsImage;
  readonly at: number;
  /** Bootstraps that have the chunk, and the last one of them. */
  images: number;
  last: RafsImage;
}

export class Dictionary {
  readonly #table: DictionaryTable;
  readonly #view: DataView;
  readonly #count: number;
  readonly #blobs: readonly BlobRef[];
  readonly #infos: ReadonlyMap<string, BlobInfo>;
  /** By position: what was found before. */
  readonly #found = new Map<number, ChunkRef>();
  readonly #digests = new DigestSlabs();

  constructor(table: DictionaryTable) {
    this.#table = table;
    this.#view = new DataView(table.records);
    this.#count = table.records.byteLength / chunkRecord.size;
    this.#blobs = table.blobs.map(({ id }) => ({ id }));
    this.#infos = new Map(table.blobs.map((info) => [info.id, info]));
  }

  /** Distinct chunks. */
  get size(): number {
    return this.#count;
  }

  /** What a blob table is to say about one of its blobs; by id, for refs get new identities between threads. */
  info(blob: BlobRef): BlobInfo | undefined {
    return this.#infos.get(blob.id);
  }

  /** All of them, in the order of digests. */
  *chunks(): Generator<ChunkRef> {
    for (let position = 0; position < this.#count; position++) yield this.#read(position);
  }

  find(digest: Uint8Array, size: number): ChunkRef | undefined {
    const position = this.#search(digest);
    if (position === undefined) return undefined;
    const known = this.#found.get(position) ?? this.#read(position);
    this.#found.set(position, known);
    return known.uncompressedSize === size ? known : undefined;
  }

  #search(digest: Uint8Array): number | undefined {
    let low = 0;
    let high = this.#count - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const order = this.#compare(digest, middle * chunkRecord.size);
      if (order === 0) return middle;
      if (order < 0) high = middle - 1;
      else low = middle + 1;
    }
    return undefined;
  }

  #compare(digest: Uint8Array, at: number): number {
    for (let i = 0; i < DIGEST_SIZE; i++) {
      const difference = (digest[i] ?? 0) - this.#view.getUint8(at + i);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  #read(position: number): ChunkRef {
    const record = chunkRecord.read(this.#view, position * chunkRecord.size);
    const { id } = this.#table.blobs[record.blob] ?? { id: "" };
    return {
      blob: this.#blobs[record.blob] ?? { id },
      index: record.index,
      compressedOffset: record.compressedOffset,
      compressedSize: record.compressedSize,
      uncompressedOffset: record.uncompressedOffset,
      uncompressedSize: record.uncompressedSize,
      compressed: (record.flags & CHUNK_FLAGS.compressed) !== 0,
      digest: this.#digests.keep(record.digest),
      crc: (record.flags & CHUNK_FLAGS.hasCrc) !== 0 ? record.crc : 0,
    };
  }
}
