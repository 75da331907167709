/**
 * Inline extended attributes: a header, then entries, behind the inode. The shared area of EROFS is not used by RAFS.
 *
 * @module
 */
import { type ByteString, byteString, byteStringOf, bytesOf, printable } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { struct, u8, u16, u32 } from "../base/struct.ts";
import type { Region } from "./superblock.ts";

/** Linux `struct erofs_xattr_ibody_header`. */
const xattrHeader = struct(12, { nameFilter: u32(0), sharedCount: u8(4) });

/** Linux `struct erofs_xattr_entry`; name suffix and value follow, then zeros up to a multiple of 4. */
const xattrEntry = struct(4, { nameLength: u8(0), prefix: u8(1), valueSize: u16(2) });

/** Linux `EROFS_XATTR_INDEX_*`: key prefixes stand as numbers. The two ACL prefixes are whole keys. */
const XATTR_PREFIXES: readonly (readonly [index: number, prefix: ByteString])[] = [
  [1, byteStringOf("user.")],
  [2, byteStringOf("system.posix_acl_access")],
  [3, byteStringOf("system.posix_acl_default")],
  [4, byteStringOf("trusted.")],
  [6, byteStringOf("security.")],
];

const PREFIX_OF = new Map(XATTR_PREFIXES);

export const MAX_XATTR_KEY = 255;
export const MAX_XATTR_VALUE = 65535;

export type Xattrs = ReadonlyMap<ByteString, Uint8Array>;

/** Bytes behind the inode for an `i_xattr_icount`: that of a lone header is 1. */
export function xattrAreaSize(count: number): number {
  return count === 0 ? 0 : xattrHeader.size + 4 * (count - 1);
}

export function xattrCount(areaSize: number): number {
  return areaSize === 0 ? 0 : (areaSize - xattrHeader.size) / 4 + 1;
}

interface SplitKey {
  readonly prefix: number;
  readonly suffix: ByteString;
}

/** A key without a prefix that EROFS knows cannot be stored. */
function splitKey(key: ByteString): SplitKey {
  for (const [prefix, text] of XATTR_PREFIXES) {
    const whole = prefix === 2 || prefix === 3;
    if (whole ? key === text : key.startsWith(text) && key.length > text.length)
      return { prefix, suffix: key.slice(text.length) as ByteString };
  }
  throw corrupt(`Cannot store xattr "${printable(key)}": EROFS has no place for keys of this kind`);
}

export function canStoreXattr(key: ByteString): boolean {
  return XATTR_PREFIXES.some(([prefix, text]) =>
    prefix === 2 || prefix === 3 ? key === text : key.startsWith(text) && key.length > text.length,
  );
}

/** Without the keys that EROFS has no place for, which Linux file systems refuse as well ("com.apple.provenance"). */
export function storableXattrs(xattrs: Xattrs): Xattrs {
  if ([...xattrs.keys()].every(canStoreXattr)) return xattrs;
  return new Map([...xattrs].filter(([key]) => canStoreXattr(key)));
}

/** Bytes that the xattrs take behind the inode. @throws corrupt when a key or value cannot be stored */
export function xattrsSize(xattrs: Xattrs): number {
  if (xattrs.size === 0) return 0;
  let size: number = xattrHeader.size;
  for (const [key, value] of xattrs) {
    if (key.length > MAX_XATTR_KEY || value.byteLength > MAX_XATTR_VALUE)
      throw corrupt(`Cannot store xattr "${printable(key).slice(0, 100)}": its key or value is too long`);
    size += alignUp(xattrEntry.size + splitKey(key).suffix.length + value.byteLength, 4);
  }
  if (xattrCount(size) > 0xffff)
    throw corrupt("Cannot store the xattrs of a file: they are too large together");
  return size;
}

/** Written in the order of their keys, so that the same tree always gives the same bytes. */
export function writeXattrs(image: Uint8Array, view: DataView, at: number, xattrs: Xattrs): void {
  if (xattrs.size === 0) return;
  xattrHeader.write(view, at, {});
  let offset = at + xattrHeader.size;
  for (const [key, value] of [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const { prefix, suffix } = splitKey(key);
    xattrEntry.write(view, offset, { nameLength: suffix.length, prefix, valueSize: value.byteLength });
    image.set(bytesOf(suffix), offset + xattrEntry.size);
    image.set(value, offset + xattrEntry.size + suffix.length);
    offset += alignUp(xattrEntry.size + suffix.length + value.byteLength, 4);
  }
}

/** Reads the area behind an inode. @throws corrupt */
export function readXattrs(view: DataView, area: Region): Map<ByteString, Uint8Array> {
  const found = new Map<ByteString, Uint8Array>();
  if (area.size === 0) return found;
  const end = area.offset + area.size;
  if (end > view.byteLength || area.size <= xattrHeader.size) throw corrupt("the xattr area has no entries");
  if (xattrHeader.fields.sharedCount.read(view, area.offset) !== 0) throw corrupt("xattrs are shared");
  let offset = area.offset + xattrHeader.size;
  while (offset < end) {
    if (offset + xattrEntry.size > end) throw corrupt("an xattr entry is cut short");
    const { nameLength, prefix, valueSize } = xattrEntry.read(view, offset);
    const text = PREFIX_OF.get(prefix);
    const name = offset + xattrEntry.size;
    const next = offset + alignUp(xattrEntry.size + nameLength + valueSize, 4);
    if (next > end) throw corrupt("an xattr ends past its area");
    if (text === undefined) throw corrupt(`xattr prefix ${prefix} is not known`);
    const suffix = byteString(new Uint8Array(view.buffer, view.byteOffset + name, nameLength));
    const key = (text + suffix) as ByteString;
    if (suffix.includes("\0") || !canStoreXattr(key)) throw corrupt("an xattr has an impossible key");
    if (found.has(key)) throw corrupt(`xattr "${printable(key)}" is there twice`);
    found.set(key, new Uint8Array(view.buffer, view.byteOffset + name + nameLength, valueSize));
    offset = next;
  }
  return found;
}
