/**
 * What surrounds deflate streams in a gzip file (RFC 1952): a file is one member or several.
 *
 * @module
 */
import { corrupt } from "./error.ts";

/** CRC-32 and length, of the uncompressed data, behind each member. */
export const GZIP_TRAILER = 8;

const FIXED = 10;
const DEFLATE = 8;
const FLAG = { headerCrc: 0x02, extra: 0x04, name: 0x08, comment: 0x10, reserved: 0xe0 } as const;

/**
 * Bytes of a member's header.
 *
 * @returns undefined when it goes on behind `bytes`. @throws corrupt when it is no header
 */
export function gzipHeaderSize(bytes: Uint8Array): number | undefined {
  if (bytes.byteLength < FIXED) return undefined;
  const [magic0, magic1, method, flags = 0] = bytes;
  if (magic0 !== 0x1f || magic1 !== 0x8b) throw corrupt("Cannot inflate: a gzip header is missing");
  if (method !== DEFLATE || (flags & FLAG.reserved) !== 0)
    throw corrupt("Cannot inflate: a gzip header has an unknown form");
  let size: number | undefined = FIXED;
  if ((flags & FLAG.extra) !== 0) size += 2 + (bytes[FIXED] ?? 0) + 256 * (bytes[FIXED + 1] ?? 0);
  if ((flags & FLAG.name) !== 0) size = afterNul(bytes, size);
  if ((flags & FLAG.comment) !== 0) size = afterNul(bytes, size);
  if (size !== undefined && (flags & FLAG.headerCrc) !== 0) size += 2;
  return size === undefined || size > bytes.byteLength ? undefined : size;
}

function afterNul(bytes: Uint8Array, start: number | undefined): number | undefined {
  if (start === undefined) return undefined;
  const at = bytes.indexOf(0, start);
  return at < 0 ? undefined : at + 1;
}
