/**
 * The 512-byte tar header: v7, ustar (POSIX), star and GNU flavours. Numbers are octal text, or base-256 where octal
 * has no room.
 *
 * @module
 */
import { type ByteString, byteString } from "../base/byte-string.ts";

export const BLOCK = 512;

interface TextField {
  readonly offset: number;
  readonly size: number;
}

const field = (offset: number, size: number): TextField => ({ offset, size });

/** POSIX `ustar` with GNU's use of the same room. */
export const HEADER = {
  name: field(0, 100),
  mode: field(100, 8),
  uid: field(108, 8),
  gid: field(116, 8),
  size: field(124, 12),
  mtime: field(136, 12),
  checksum: field(148, 8),
  type: field(156, 1),
  linkName: field(157, 100),
  magic: field(257, 8),
  userName: field(265, 32),
  groupName: field(297, 32),
  major: field(329, 8),
  minor: field(337, 8),
  prefix: field(345, 155),
  /** star keeps times behind a shorter prefix, and says so at the end. */
  starPrefix: field(345, 131),
  starTrailer: field(508, 4),
  gnuSparse: field(386, 96),
  gnuExtended: field(482, 1),
  gnuRealSize: field(483, 12),
} as const satisfies Record<string, TextField>;

export const MAGIC_USTAR = "ustar\u000000";

/** Octal digits, or undefined where a field holds anything else. */
export function parseNumber(block: Uint8Array, { offset, size }: TextField): number | undefined {
  const first = block[offset] ?? 0;
  if ((first & 0x80) !== 0) return parseBase256(block, offset, size);
  let at = offset;
  let end = offset + size;
  while (at < end && isBlank(block[at])) at++;
  while (end > at && isBlank(block[end - 1])) end--;
  let value = 0;
  for (; at < end; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) {
      // Some writers leave rubbish behind the terminator.
      if (isBlank(block[at])) break;
      return undefined;
    }
    value = value * 8 + digit;
  }
  return value;
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0 || byte === 0x20;
}

/** Two's complement, big endian, below the marker bit. */
function parseBase256(block: Uint8Array, offset: number, size: number): number | undefined {
  const negative = ((block[offset] ?? 0) & 0x40) !== 0;
  let value = negative ? -1 : 0;
  for (let i = 0; i < size; i++) {
    const byte = block[offset + i] ?? 0;
    const bits = i === 0 ? (negative ? byte | 0x80 : byte & 0x7f) : byte;
    value = i === 0 && negative ? bits - 256 : value * 256 + bits;
  }
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Bytes up to the first NUL. */
export function parseText(block: Uint8Array, { offset, size }: TextField): ByteString {
  const text = byteString(block.subarray(offset, offset + size));
  const end = text.indexOf("\0");
  return (end < 0 ? text : text.slice(0, end)) as ByteString;
}

export function isZeroBlock(block: Uint8Array): boolean {
  for (let i = 0; i < block.byteLength; i++) if (block[i] !== 0) return false;
  return true;
}

/** Old writers summed signed bytes; both sums are taken. */
export function checksumMatches(block: Uint8Array): boolean {
  const stored = parseNumber(block, HEADER.checksum);
  const { offset, size } = HEADER.checksum;
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= offset && i < offset + size ? 0x20 : (block[i] ?? 0);
    unsigned += byte;
    signed += byte < 0x80 ? byte : byte - 256;
  }
  return stored === unsigned || stored === signed;
}

/** Name with the prefix of the flavours that have one. */
export function headerPath(block: Uint8Array): ByteString {
  const name = parseText(block, HEADER.name);
  const magic = byteString(block.subarray(HEADER.magic.offset, HEADER.magic.offset + 6));
  if (magic !== "ustar\0") return name;
  const star = parseText(block, HEADER.starTrailer) === "tar";
  const prefix = parseText(block, star ? HEADER.starPrefix : HEADER.prefix);
  return prefix === "" ? name : (`${prefix}/${name}` as ByteString);
}
