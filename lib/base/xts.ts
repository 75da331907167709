/**
 * AES-128-XTS (IEEE 1619) with ciphertext stealing, and the form in which RAFS encrypts what is shorter than one cipher
 * block. The runtime's crypto has no XTS, but AES over all blocks of a unit at once is most of it.
 *
 * @module
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { corrupt } from "./error.ts";

const BLOCK = 16;
/** Less than a block is padded to one with the number of bytes missing, and this follows. */
const SHORT_MARK = Uint8Array.of(0x78, 0x90);
const SHORT_SIZE = BLOCK + SHORT_MARK.byteLength;

function aes(key: Uint8Array, data: Uint8Array, encrypt: boolean): Buffer {
  const cipher = (encrypt ? createCipheriv : createDecipheriv)("aes-128-ecb", key, null);
  return cipher.setAutoPadding(false).update(data);
}

/** One tweak a block: the encrypted iv, times 2, 4, 8 and so on in GF(2^128). */
function tweaks(key: Uint8Array, iv: Uint8Array, blocks: number): Uint32Array {
  const first = aes(key.subarray(BLOCK), iv, true);
  const out = new Uint32Array(4 * blocks);
  let [a, b, c, d] = [0, 4, 8, 12].map((at) => first.readUInt32LE(at)) as [number, number, number, number];
  for (let i = 0; i < out.length; i += 4) {
    out[i] = a;
    out[i + 1] = b;
    out[i + 2] = c;
    out[i + 3] = d;
    const carry = (d >>> 31) * 0x87;
    d = (d << 1) | (c >>> 31);
    c = (c << 1) | (b >>> 31);
    b = (b << 1) | (a >>> 31);
    a = (a << 1) ^ carry;
  }
  return out;
}

/** Whole blocks, block i under tweak `first` + i. */
function blocksOf(
  key: Uint8Array,
  data: Uint8Array,
  tweak: Uint32Array,
  first: number,
  encrypt: boolean,
): Uint8Array {
  const words = new Uint32Array(data.byteLength / 4);
  const bytes = new Uint8Array(words.buffer);
  bytes.set(data);
  const mask = (): void => {
    for (let i = 0; i < words.length; i++) words[i] = (words[i] ?? 0) ^ (tweak[4 * first + i] ?? 0);
  };
  mask();
  bytes.set(aes(key.subarray(0, BLOCK), bytes, encrypt));
  mask();
  return bytes;
}

function transform(key: Uint8Array, iv: Uint8Array, data: Uint8Array, encrypt: boolean): Uint8Array {
  const rest = data.byteLength % BLOCK;
  const whole = (data.byteLength - rest) / BLOCK;
  const tweak = tweaks(key, iv, whole + 1);
  if (rest === 0) return blocksOf(key, data, tweak, 0, encrypt);
  // Ciphertext stealing: the last whole block lends its end to the rest. Decrypting uses the last two tweaks swapped.
  const out = new Uint8Array(data.byteLength);
  const body = (whole - 1) * BLOCK;
  out.set(blocksOf(key, data.subarray(0, body), tweak, 0, encrypt));
  const [early, late] = encrypt ? [whole - 1, whole] : [whole, whole - 1];
  const lent = blocksOf(key, data.subarray(body, body + BLOCK), tweak, early, encrypt);
  const filled = Uint8Array.from(lent);
  filled.set(data.subarray(body + BLOCK));
  out.set(blocksOf(key, filled, tweak, late, encrypt), body);
  out.set(lent.subarray(0, rest), body + BLOCK);
  return out;
}

/**
 * @param key 32 bytes: the data key, then the tweak key
 * @param iv 16 bytes
 */
export function encryptXts(key: Uint8Array, iv: Uint8Array, data: Uint8Array): Uint8Array {
  if (data.byteLength >= BLOCK) return transform(key, iv, data, true);
  const missing = BLOCK - data.byteLength;
  const padded = Buffer.concat([data, new Uint8Array(missing).fill(missing), SHORT_MARK]);
  return transform(key, iv, padded, true);
}

/** @throws corrupt when there is less than a block */
export function decryptXts(key: Uint8Array, iv: Uint8Array, data: Uint8Array): Uint8Array {
  if (data.byteLength < BLOCK)
    throw corrupt(`Cannot decrypt ${data.byteLength} bytes: there is no whole cipher block`);
  const plain = transform(key, iv, data, false);
  const missing = plain[BLOCK - 1] ?? 0;
  const short =
    plain.byteLength === SHORT_SIZE && plain[BLOCK] === SHORT_MARK[0] && plain[BLOCK + 1] === SHORT_MARK[1];
  return short && missing >= 1 && missing <= BLOCK ? plain.subarray(0, BLOCK - missing) : plain;
}
