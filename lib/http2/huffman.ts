/**
 * The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: ordered by length and then by symbol, codes count
 * upwards, so the lengths say everything.
 *
 * @module
 */
import { corrupt } from "../base/error.ts";

/** Bits of a code, and the symbols that have one of this length; 256 is the end of the string. */
const LENGTHS: readonly (readonly [bits: number, symbols: string])[] = [
  [5, "48-50 97 99 101 105 111 115-116"],
  [6, "32 37 45-47 51-57 61 65 95 98 100 102-104 108-110 112 114 117"],
  [7, "58 66-87 89 106-107 113 118-122"],
  [8, "38 42 44 59 88 90"],
  [10, "33-34 40-41 63"],
  [11, "39 43 124"],
  [12, "35 62"],
  [13, "0 36 64 91 93 126"],
  [14, "94 125"],
  [15, "60 96 123"],
  [19, "92 195 208"],
  [20, "128 130-131 162 184 194 224 226"],
  [21, "153 161 167 172 176-177 179 209 216-217 227 229-230"],
  [22, "129 132-134 136 146 154 156 160 163-164 169-170 173 178 181 185-187 189-190 196 198 228 232-233"],
  [23, "1 135 137-141 143 147 149-152 155 157-158 165-166 168 174-175 180 182-183 188 191 197 231 239"],
  [24, "9 142 144-145 148 159 171 206 215 225 236-237"],
  [25, "199 207 234-235"],
  [26, "192-193 200-202 205 210 213 218-219 238 240 242-243 255"],
  [27, "203-204 211-212 214 221-223 241 244-248 250-254"],
  [28, "2-8 11-12 14-21 23-31 127 220 249"],
  [30, "10 13 22 256"],
];
const END = 256;

/** A binary tree in one array: at 2n and 2n+1 stand the next nodes for bits 0 and 1; a symbol is stored as -1 - symbol. */
const TREE: readonly number[] = buildTree();

function buildTree(): number[] {
  const tree = [0, 0];
  let [code, bits] = [0, 0];
  for (const [length, symbols] of LENGTHS) {
    for (const symbol of expand(symbols)) {
      code <<= length - bits;
      bits = length;
      insert(tree, code, bits, symbol);
      code++;
    }
  }
  return tree;
}

function* expand(symbols: string): Generator<number> {
  for (const run of symbols.split(" ")) {
    const [first = 0, last = first] = run.split("-").map(Number);
    for (let symbol = first; symbol <= last; symbol++) yield symbol;
  }
}

function insert(tree: number[], code: number, bits: number, symbol: number): void {
  let node = 0;
  for (let i = bits - 1; i > 0; i--) {
    const at = 2 * node + ((code >> i) & 1);
    if (tree[at] === 0) {
      tree[at] = tree.length / 2;
      tree.push(0, 0);
    }
    node = tree[at] ?? 0;
  }
  tree[2 * node + (code & 1)] = -1 - symbol;
}

/** @throws corrupt for the end symbol inside, and for padding that is longer than 7 bits or not all ones */
export function decodeHuffman(bytes: Uint8Array): string {
  const text: number[] = [];
  let [node, depth, ones] = [0, 0, true];
  for (const byte of bytes) {
    for (let i = 7; i >= 0; i--) {
      const bit = (byte >> i) & 1;
      const next = TREE[2 * node + bit] ?? 0;
      depth++;
      ones &&= bit === 1;
      if (next < 0) {
        if (next === -1 - END) throw corrupt("Cannot read a header: its text ends too early");
        text.push(-1 - next);
        [node, depth, ones] = [0, 0, true];
      } else node = next;
    }
  }
  if (depth > 7 || !ones) throw corrupt("Cannot read a header: its text has wrong padding");
  return Buffer.from(text).toString("latin1");
}
