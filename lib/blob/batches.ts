/**
 * Gathers chunks of small files, to be compressed together: alone they compress badly, and each costs a request.
 *
 * @module
 */
import type { BatchUnit } from "../rafs/chunk-map.ts";
import type { ChunkQueue } from "./chunk-queue.ts";

/** Where a chunk is that lies in a batch. */
export interface BatchPlace {
  /** Which batch, in the order of the blob. */
  readonly unit: number;
  /** In what the batch expands to. */
  readonly offset: number;
}

/** A batch that has been filled; its stored size and place are known once the queue has written it. */
interface Batch extends BatchUnit {
  storedSize: number;
  start: number;
}

export interface BatchOptions {
  /** Bytes: a power of two, at most the chunk size. */
  readonly batchSize: number;
  /** Batches of fewer bytes than this are stored as chunks of their own. */
  readonly least: number;
  /** Takes the chunk back that is not to be in a batch after all. */
  readonly alone: (ordinal: number, bytes: Uint8Array) => void;
  /** Writes a batch's stored form. @returns where it starts in the blob, and its size there */
  readonly write: (stored: Uint8Array) => { readonly start: number; readonly size: number };
}

export class Batches {
  readonly #queue: ChunkQueue;
  readonly #options: BatchOptions;
  readonly #batches: Batch[] = [];
  readonly #places = new Map<number, BatchPlace>();
  /** The open batch: ordinals of its chunks, their bytes, and how many of those there are. */
  #ordinals: { readonly ordinal: number; readonly start: number }[] = [];
  #buffer = new Uint8Array(0);
  #filled = 0;

  constructor(queue: ChunkQueue, options: BatchOptions) {
    this.#queue = queue;
    this.#options = options;
  }

  /** Finished batches. */
  get units(): readonly BatchUnit[] {
    return this.#batches;
  }

  /** Only small files, and those of one chunk, are batched. */
  takes(size: number, wholeFile: boolean): boolean {
    return wholeFile && size < this.#options.batchSize / 2;
  }

  add(ordinal: number, bytes: Uint8Array): void {
    const { batchSize } = this.#options;
    if (this.#filled + bytes.byteLength >= batchSize) this.flush();
    if (this.#filled === 0) this.#buffer = new Uint8Array(batchSize);
    this.#buffer.set(bytes, this.#filled);
    this.#ordinals.push({ ordinal, start: this.#filled });
    this.#filled += bytes.byteLength;
  }

  /** Ends the open batch: before a chunk that is in none, and at the end. */
  flush(): void {
    if (this.#filled === 0) return;
    const bytes = this.#buffer.subarray(0, this.#filled);
    const chunks = this.#ordinals;
    this.#ordinals = [];
    this.#filled = 0;
    if (bytes.byteLength < this.#options.least) {
      for (const [i, { ordinal, start }] of chunks.entries())
        this.#options.alone(ordinal, bytes.subarray(start, chunks[i + 1]?.start));
      return;
    }
    const batch: Batch = { kind: "batch", storedSize: 0, size: bytes.byteLength, start: 0 };
    const unit = this.#batches.push(batch) - 1;
    for (const { ordinal, start } of chunks) this.#places.set(ordinal, { unit, offset: start });
    this.#queue.add(bytes, (stored) => {
      const { start, size } = this.#options.write(stored);
      batch.start = start;
      batch.storedSize = size;
    });
  }

  /** Of a chunk in a finished batch, with where that starts in the blob; undefined of a chunk of its own. */
  placeOf(ordinal: number): (BatchPlace & { readonly start: number }) | undefined {
    const place = this.#places.get(ordinal);
    return place && { ...place, start: this.#batches[place.unit]?.start ?? 0 };
  }
}
