/**
 * Decoding tables of deflate's prefix codes (RFC 1951, 3.2.2): one lookup for short codes, a second one for long codes.
 *
 * An entry is `symbol << 8 | length`, where length is that of the whole code; 0 is no code. A link from the first level
 * is `index << 8 | LINK | bits` and leads to a second table of 2^bits entries.
 *
 * @module
 */
import { corrupt } from "./error.ts";

/** Deflate's longest code. */
const MAX_LENGTH = 15;
export const LINK = 0x80;
/** Of `length` and `bits` in an entry. */
export const COUNT_MASK = 0xf;

export interface HuffmanTable {
  /** Bits that the first lookup takes. */
  readonly rootBits: number;
  readonly entries: Uint32Array;
}

/** Room for second tables: each has two codes at least, and no more than 2^(15 - root) entries. */
export function huffmanTable(symbols: number, rootBits: number): HuffmanTable {
  const second = Math.ceil(symbols / 2) * 2 ** (MAX_LENGTH - rootBits);
  return { rootBits, entries: new Uint32Array(2 ** rootBits + second) };
}

const counts = (): Uint16Array => new Uint16Array(MAX_LENGTH + 1);

/**
 * Fills a table from the lengths of the symbols' codes; 0 = the symbol has none.
 *
 * @throws corrupt when the lengths make no prefix code. A lone code of one bit is accepted, as zlib does
 */
export function fillTable(table: HuffmanTable, lengths: Uint8Array): void {
  const perLength = counts();
  for (const length of lengths) perLength[length] = (perLength[length] ?? 0) + 1;
  perLength[0] = 0;
  const next = firstCodes(perLength);
  const codes = new Uint16Array(lengths.length);
  for (const [symbol, length] of lengths.entries()) {
    if (length === 0) continue;
    codes[symbol] = reversed(next[length] ?? 0, length);
    next[length] = (next[length] ?? 0) + 1;
  }
  table.entries.fill(0, 0, 2 ** table.rootBits);
  link(table, lengths, codes);
  for (const [symbol, length] of lengths.entries())
    if (length > 0) enter(table, codes[symbol] ?? 0, length, (symbol << 8) | length);
}

function firstCodes(perLength: Uint16Array): Uint16Array {
  const next = counts();
  let code = 0;
  let left = 1;
  for (let length = 1; length <= MAX_LENGTH; length++) {
    code = (code + (perLength[length - 1] ?? 0)) << 1;
    left = left * 2 - (perLength[length] ?? 0);
    if (left < 0) throw corrupt("Cannot inflate: a prefix code has too many codes");
    next[length] = code;
  }
  const total = perLength.reduce((sum, count) => sum + count, 0);
  const lone = total === 0 || (total === 1 && perLength[1] === 1);
  if (left > 0 && !lone) throw corrupt("Cannot inflate: a prefix code is not complete");
  return next;
}

/** Codes come with their first bit lowest. */
function reversed(code: number, length: number): number {
  let out = 0;
  for (let i = 0; i < length; i++) out = (out << 1) | ((code >> i) & 1);
  return out;
}

/** Second tables, each as large as its longest code needs. */
function link({ rootBits, entries }: HuffmanTable, lengths: Uint8Array, codes: Uint16Array): void {
  const root = 2 ** rootBits;
  const deepest = new Map<number, number>();
  for (const [symbol, length] of lengths.entries()) {
    if (length <= rootBits) continue;
    const prefix = (codes[symbol] ?? 0) & (root - 1);
    deepest.set(prefix, Math.max(deepest.get(prefix) ?? 0, length - rootBits));
  }
  let end = root;
  for (const [prefix, bits] of deepest) {
    entries[prefix] = (end << 8) | LINK | bits;
    entries.fill(0, end, end + 2 ** bits);
    end += 2 ** bits;
  }
}

function enter({ rootBits, entries }: HuffmanTable, code: number, length: number, entry: number): void {
  const root = 2 ** rootBits;
  if (length <= rootBits) {
    for (let i = code; i < root; i += 2 ** length) entries[i] = entry;
    return;
  }
  const first = entries[code & (root - 1)] ?? 0;
  const size = 2 ** (first & COUNT_MASK);
  const step = 2 ** (length - rootBits);
  for (let i = code >> rootBits; i < size; i += step) entries[(first >>> 8) + i] = entry;
}
