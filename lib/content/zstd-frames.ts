/**
 * Follows the frames of a zstd stream as it passes, to know whether it ended between two of them: the runtime's
 * decompressor takes a stream that is cut anywhere as ended. Only headers are looked at; blocks are jumped over.
 * Format: RFC 8878 3.1.
 *
 * @module
 */

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
/** Bytes of the fields that the frame header descriptor announces. */
const DICTIONARY_SIZES = [0, 1, 2, 4] as const;
const CONTENT_SIZES = [0, 2, 4, 8] as const;
const RLE_BLOCK = 1;

type State = "magic" | "skippable" | "descriptor" | "block";

export class ZstdFrames {
  #state: State = "magic";
  /** Bytes of a header that has not arrived whole. */
  readonly #header = new Uint8Array(4);
  #held = 0;
  /** Bytes to pass over before the next header. */
  #skip = 0;
  #checksum = false;
  /** Not a frame: the decompressor will say so. */
  #lost = false;

  /** True between frames (and where the stream is not zstd at all). */
  get complete(): boolean {
    return this.#lost || (this.#state === "magic" && this.#held === 0 && this.#skip === 0);
  }

  push(piece: Uint8Array): void {
    for (let at = 0; at < piece.byteLength && !this.#lost; ) {
      if (this.#skip > 0) {
        const passed = Math.min(this.#skip, piece.byteLength - at);
        this.#skip -= passed;
        at += passed;
        continue;
      }
      this.#header[this.#held++] = piece[at++] ?? 0;
      if (this.#held === this.#wanted()) this.#enter();
    }
  }

  /** Bytes of the header that the state begins with. */
  #wanted(): number {
    return { magic: 4, skippable: 4, descriptor: 1, block: 3 }[this.#state];
  }

  /** A header has arrived. */
  #enter(): void {
    const value = this.#header.subarray(0, this.#held).reduceRight((sum, byte) => sum * 256 + byte, 0);
    this.#held = 0;
    switch (this.#state) {
      case "magic":
        if (value === MAGIC) this.#state = "descriptor";
        else if (value >= SKIPPABLE && value < SKIPPABLE + 16) this.#state = "skippable";
        else this.#lost = true;
        return;
      case "skippable":
        this.#skip = value;
        this.#state = "magic";
        return;
      case "descriptor":
        this.#skip = restOfHeader(value);
        this.#checksum = (value & 4) !== 0;
        this.#state = "block";
        return;
      case "block": {
        const last = (value & 1) === 1;
        this.#skip = ((value >> 1) & 3) === RLE_BLOCK ? 1 : value >> 3;
        if (!last) return;
        if (this.#checksum) this.#skip += 4;
        this.#state = "magic";
      }
    }
  }
}

function restOfHeader(descriptor: number): number {
  const singleSegment = (descriptor >> 5) & 1;
  const sizeCode = descriptor >> 6;
  const contentSize = sizeCode === 0 ? singleSegment : (CONTENT_SIZES[sizeCode] ?? 0);
  const window = 1 - singleSegment;
  return window + (DICTIONARY_SIZES[descriptor & 3] ?? 0) + contentSize;
}
