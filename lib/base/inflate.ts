/**
 * Deflate (RFC 1951) decoded in steps that can be looked into: where each block starts, down to the bit, and how much
 * input an output byte took. The runtime's zlib is faster but tells neither, and cannot start at a bit.
 *
 * @module
 */
import { corrupt } from "./error.ts";
import { COUNT_MASK, fillTable, type HuffmanTable, huffmanTable, LINK } from "./huffman-table.ts";

/** What a match can reach back. */
export const WINDOW_SIZE = 32 * 1024;
/** The longest match: output may go this far past `stop`. */
export const MAX_MATCH = 258;

/** A block header with its code lengths: 17 bits, 19 lengths of 3 bits, 320 symbols of up to 14 bits. */
const MAX_HEADER = 640;
/** Bytes that one length and distance can take, with what is in the bit buffer. */
const MAX_SYMBOL = 16;

const LITERALS = 286;
const DISTANCES = 30;
const END_OF_BLOCK = 256;
const LENGTH_BASE = Uint16Array.of(
  ...[3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163],
  ...[195, 227, 258],
);
const LENGTH_BITS = Uint8Array.of(
  ...[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0],
);
const DISTANCE_BASE = Uint16Array.of(
  ...[1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073],
  ...[4097, 6145, 8193, 12289, 16385, 24577],
);
const DISTANCE_BITS = Uint8Array.from({ length: DISTANCES }, (_, i) => Math.max(0, (i >> 1) - 1));
/** The order in which lengths of the code for code lengths are sent. */
const LENGTH_ORDER = Uint8Array.of(16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15);

const FIXED_LITERALS = Uint8Array.from({ length: 288 }, (_, i) =>
  i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8,
);
const FIXED_DISTANCES = new Uint8Array(32).fill(5);

/**
 * - "input": more input is needed
 * - "output": `outPosition` has reached `stop`
 * - "block": a block starts at `inPosition`, `pendingBits`
 * - "end": the last block has ended
 */
export type Step = "input" | "output" | "block" | "end";

type Mode = "boundary" | "header" | "stored" | "codes" | "end";

export class Inflater {
  /** What has been decoded, behind what matches may reach back to. */
  out: Uint8Array;
  outPosition: number;
  /** No match may reach before this index of `out`. */
  outStart: number;
  /** Decoding pauses once `outPosition` is here or up to `MAX_MATCH` past it; `out` must have room for that. */
  stop: number;
  /** Where matches reach below this index of `out`, they are noted in `marks`. */
  markBelow = 0;
  /** By distance before `markBelow`, less one: 1 = the byte was copied from. */
  readonly marks: Uint8Array = new Uint8Array(WINDOW_SIZE);
  #in: Uint8Array = new Uint8Array(0);
  #position = 0;
  #end = 0;
  #last = false;
  #bits = 0;
  #count = 0;
  #mode: Mode = "boundary";
  #final = false;
  #storedLeft = 0;
  readonly #literals = huffmanTable(288, 10);
  readonly #distances = huffmanTable(32, 8);
  readonly #lengths = huffmanTable(19, 7);

  constructor(out: Uint8Array, outPosition: number, stop: number) {
    this.out = out;
    this.outStart = 0;
    this.outPosition = outPosition;
    this.stop = stop;
  }

  /**
   * Goes on with `input`, which starts at `inPosition` of the input before.
   *
   * @param last whether nothing comes after it
   */
  feed(input: Uint8Array, last: boolean): void {
    this.#unread();
    // Zeros at the end spare the decoder asking before each byte; `inPosition` tells whether any was used.
    this.#in = last ? Buffer.concat([input, new Uint8Array(MAX_SYMBOL)]) : input;
    this.#end = input.byteLength;
    this.#position = 0;
    this.#last = last;
  }

  /** Bytes of the input that were touched: the last one has `pendingBits` unused bits. */
  get inPosition(): number {
    return this.#position - (this.#count >> 3);
  }

  /** 0 to 7: high bits of the byte before `inPosition` that are not decoded yet. */
  get pendingBits(): number {
    return this.#count & 7;
  }

  /** For another stream behind this one, which matches nothing before it: feed it next. */
  restart(): void {
    this.#mode = "boundary";
    this.#final = false;
    this.#bits = 0;
    this.#count = 0;
    this.outStart = this.outPosition;
  }

  /** Starts in the middle of a byte, with its `count` high bits. Call before the first input. */
  prime(byte: number, count: number): void {
    this.#bits = byte >> (8 - count);
    this.#count = count;
  }

  /** Gives whole bytes of the bit buffer back to the input. */
  #unread(): void {
    this.#position = this.inPosition;
    this.#count &= 7;
    this.#bits &= (1 << this.#count) - 1;
  }

  /** @throws corrupt */
  step(): Step {
    for (;;) {
      switch (this.#mode) {
        case "boundary":
          if (this.#final) {
            this.#mode = "end";
            break;
          }
          this.#mode = "header";
          return "block";
        case "header":
          if (!this.#has(MAX_HEADER)) return "input";
          this.#header();
          break;
        case "stored":
        case "codes": {
          const paused = this.#mode === "stored" ? this.#stored() : this.#codes();
          this.#assertInput();
          if (paused !== undefined) return paused;
          break;
        }
        case "end":
          return "end";
      }
    }
  }

  #has(bytes: number): boolean {
    return this.#last || this.#end - this.#position >= bytes;
  }

  #assertInput(): void {
    if (this.#last && this.inPosition > this.#end) throw corrupt("Cannot inflate: unexpected end of file");
  }

  #take(count: number): number {
    while (this.#count < count) {
      this.#bits |= (this.#in[this.#position++] ?? 0) << this.#count;
      this.#count += 8;
    }
    const value = this.#bits & ((1 << count) - 1);
    this.#bits >>>= count;
    this.#count -= count;
    return value;
  }

  #header(): void {
    this.#final = this.#take(1) === 1;
    const type = this.#take(2);
    if (type === 0) this.#startStored();
    else if (type === 1) this.#startCodes(FIXED_LITERALS, FIXED_DISTANCES);
    else if (type === 2) this.#readCodes();
    else throw corrupt("Cannot inflate: a block has an unknown type");
    this.#assertInput();
  }

  #startStored(): void {
    this.#take(this.#count & 7);
    const length = this.#take(16);
    if (this.#take(16) !== (length ^ 0xffff))
      throw corrupt("Cannot inflate: a stored block's lengths disagree");
    this.#unread();
    this.#storedLeft = length;
    this.#mode = "stored";
  }

  #startCodes(literals: Uint8Array, distances: Uint8Array): void {
    fillTable(this.#literals, literals);
    fillTable(this.#distances, distances);
    this.#mode = "codes";
  }

  #readCodes(): void {
    const literals = this.#take(5) + 257;
    const distances = this.#take(5) + 1;
    const count = this.#take(4) + 4;
    if (literals > LITERALS || distances > DISTANCES)
      throw corrupt("Cannot inflate: a block has too many symbols");
    const lengths = new Uint8Array(LENGTH_ORDER.length);
    for (let i = 0; i < count; i++) lengths[LENGTH_ORDER[i] ?? 0] = this.#take(3);
    fillTable(this.#lengths, lengths);
    const all = this.#readLengths(literals + distances);
    if (all[END_OF_BLOCK] === 0) throw corrupt("Cannot inflate: a block has no end");
    this.#startCodes(all.subarray(0, literals), all.subarray(literals));
  }

  #readLengths(total: number): Uint8Array {
    const all = new Uint8Array(total);
    for (let i = 0; i < total; ) {
      const symbol = this.#symbol(this.#lengths);
      if (symbol < 16) {
        all[i++] = symbol;
        continue;
      }
      if (symbol === 16 && i === 0) throw corrupt("Cannot inflate: there is no length to repeat");
      const value = symbol === 16 ? (all[i - 1] ?? 0) : 0;
      const times =
        symbol === 16 ? 3 + this.#take(2) : symbol === 17 ? 3 + this.#take(3) : 11 + this.#take(7);
      if (i + times > total) throw corrupt("Cannot inflate: a length is repeated too often");
      all.fill(value, i, i + times);
      i += times;
    }
    return all;
  }

  /** Only for the code of code lengths, which needs no second table. */
  #symbol({ entries, rootBits }: HuffmanTable): number {
    while (this.#count < rootBits) {
      this.#bits |= (this.#in[this.#position++] ?? 0) << this.#count;
      this.#count += 8;
    }
    const entry = entries[this.#bits & (2 ** rootBits - 1)] ?? 0;
    if (entry === 0) throw corrupt("Cannot inflate: a code is not known");
    this.#take(entry & COUNT_MASK);
    return entry >>> 8;
  }

  #stored(): Step | undefined {
    const size = Math.min(this.#storedLeft, this.#end - this.#position, this.stop - this.outPosition);
    if (size > 0) {
      this.out.set(this.#in.subarray(this.#position, this.#position + size), this.outPosition);
      this.#position += size;
      this.outPosition += size;
      this.#storedLeft -= size;
    }
    if (this.#storedLeft === 0) {
      this.#mode = "boundary";
      return undefined;
    }
    if (this.outPosition >= this.stop) return "output";
    if (this.#last) throw corrupt("Cannot inflate: unexpected end of file");
    return "input";
  }

  #codes(): Step | undefined {
    const { out, stop, outStart, markBelow } = this;
    const input = this.#in;
    const literals = this.#literals.entries;
    const distances = this.#distances.entries;
    // Up to four bytes are in the bit buffer.
    const safe = this.#last ? this.#end + 4 : this.#end - MAX_SYMBOL;
    let position = this.#position;
    let bits = this.#bits;
    let count = this.#count;
    let to = this.outPosition;
    let paused: Step | undefined;
    for (;;) {
      if (to >= stop) {
        paused = "output";
        break;
      }
      if (position > safe) {
        paused = "input";
        break;
      }
      while (count <= 24) {
        bits |= (input[position++] as number) << count;
        count += 8;
      }
      let entry = literals[bits & 1023] as number;
      if ((entry & LINK) !== 0)
        entry = literals[(entry >>> 8) + ((bits >>> 10) & ((1 << (entry & COUNT_MASK)) - 1))] as number;
      const size = entry & COUNT_MASK;
      bits >>>= size;
      count -= size;
      const symbol = entry >>> 8;
      if (symbol < END_OF_BLOCK && size !== 0) {
        out[to++] = symbol;
        continue;
      }
      if (symbol === END_OF_BLOCK) {
        this.#mode = "boundary";
        break;
      }
      if (size === 0 || symbol > 285) throw corrupt("Cannot inflate: a code is not known");
      let extra = LENGTH_BITS[symbol - 257] as number;
      const length = (LENGTH_BASE[symbol - 257] as number) + (bits & ((1 << extra) - 1));
      bits >>>= extra;
      count -= extra;
      while (count <= 24) {
        bits |= (input[position++] as number) << count;
        count += 8;
      }
      entry = distances[bits & 255] as number;
      if ((entry & LINK) !== 0)
        entry = distances[(entry >>> 8) + ((bits >>> 8) & ((1 << (entry & COUNT_MASK)) - 1))] as number;
      const width = entry & COUNT_MASK;
      if (width === 0 || entry >>> 8 >= DISTANCES) throw corrupt("Cannot inflate: a distance is not known");
      bits >>>= width;
      count -= width;
      extra = DISTANCE_BITS[entry >>> 8] as number;
      while (count < extra) {
        bits |= (input[position++] as number) << count;
        count += 8;
      }
      let from = to - (DISTANCE_BASE[entry >>> 8] as number) - (bits & ((1 << extra) - 1));
      bits >>>= extra;
      count -= extra;
      if (from < outStart) throw corrupt("Cannot inflate: a match reaches back too far");
      if (from < markBelow) this.#mark(from, length);
      for (const end = to + length; to < end; ) out[to++] = out[from++] as number;
    }
    this.#position = position;
    this.#bits = bits;
    this.#count = count;
    this.outPosition = to;
    return paused;
  }

  #mark(from: number, length: number): void {
    const end = Math.min(from + length, this.markBelow);
    this.marks.fill(1, this.markBelow - end, this.markBelow - from);
  }
}
