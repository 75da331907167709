/**
 * Compresses chunks beside each other and gives them back in the order they came. Large chunks go to the runtime's
 * thread pool; for small ones the way there costs more than compressing does.
 *
 * @module
 */
import { type Compressor, compressChunk, compressChunkInPool } from "../base/compression.ts";

/** Uncompressed bytes. Measured: down to here the trip to the pool costs no more processor time than it saves. */
const POOL_FROM = 16 * 1024;

/** Uncompressed bytes that may wait to be written: what bounds memory. */
const MAX_PENDING = 16 * 2 ** 20;

/** `stored` is the form to write; it is the chunk itself when compressing does not help. */
export type Stored = (stored: Uint8Array, compressed: boolean) => void;

interface Slot {
  readonly chunk: Uint8Array;
  readonly stored: Stored;
  result: Uint8Array | undefined;
  ready: boolean;
}

export class ChunkQueue {
  readonly #compressor: Compressor;
  readonly #slots: Slot[] = [];
  #pending = 0;
  #failure: unknown;
  #wake: (() => void) | undefined;

  constructor(compressor: Compressor) {
    this.#compressor = compressor;
  }

  /** The chunk's bytes must not change until `stored` was called. */
  add(chunk: Uint8Array, stored: Stored): void {
    const slot: Slot = { chunk, stored, result: undefined, ready: false };
    this.#slots.push(slot);
    this.#pending += chunk.byteLength;
    if (this.#compressor === "none" || chunk.byteLength < POOL_FROM) {
      this.#finish(slot, compressChunk(this.#compressor, chunk));
      return;
    }
    compressChunkInPool(this.#compressor, chunk).then(
      (result) => this.#finish(slot, result),
      (error) => this.#fail(error),
    );
  }

  /** Ask before adding more; true means wait for `room`. */
  get full(): boolean {
    return this.#pending > MAX_PENDING || this.#failure !== undefined;
  }

  /** Resolves when more may be added. @throws whatever compressing or storing threw */
  async room(): Promise<void> {
    while (this.#pending > MAX_PENDING && this.#failure === undefined) await this.#change();
    this.#assertSound();
  }

  /** Resolves when everything was stored. */
  async drain(): Promise<void> {
    while (this.#slots.length > 0 && this.#failure === undefined) await this.#change();
    this.#assertSound();
  }

  #assertSound(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #finish(slot: Slot, result: Uint8Array | undefined): void {
    slot.result = result;
    slot.ready = true;
    try {
      this.#flush();
    } catch (error) {
      this.#fail(error);
    }
  }

  #flush(): void {
    let done = 0;
    for (const slot of this.#slots) {
      if (!slot.ready || this.#failure !== undefined) break;
      slot.stored(slot.result ?? slot.chunk, slot.result !== undefined);
      this.#pending -= slot.chunk.byteLength;
      done++;
    }
    if (done === 0) return;
    this.#slots.splice(0, done);
    this.#notify();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#notify();
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
