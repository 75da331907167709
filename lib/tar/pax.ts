/**
 * PAX extended headers: records `LENGTH KEY=VALUE\n`. The length rules, so a value may hold newlines and any other
 * byte; nothing is decoded as text.
 *
 * @module
 */
import { type ByteString, byteString, bytesOf, printable } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";

export type PaxRecords = Map<string, ByteString>;

export const XATTR_KEY = "SCHILY.xattr.";

/** Keys whose value is a name for the file system. */
const NAMES = new Set(["path", "linkpath", "GNU.sparse.name"]);

/** @throws corrupt; the caller adds which entry it was */
export function parsePax(bytes: Uint8Array): PaxRecords {
  const text = byteString(bytes);
  const records: PaxRecords = new Map();
  let at = 0;
  while (at < text.length) {
    // Some writers pad the body with NULs up to the block.
    if (text.charCodeAt(at) === 0) break;
    const space = text.indexOf(" ", at);
    const digits = space < 0 ? "" : text.slice(at, space);
    const end = at + Number(digits);
    if (!/^\d{1,10}$/.test(digits) || end > text.length || end <= space + 1 || text[end - 1] !== "\n")
      throw corrupt(`its PAX record at byte ${at} has a wrong length`);
    const equals = text.indexOf("=", space + 1);
    if (equals < 0 || equals >= end) throw corrupt(`its PAX record at byte ${at} has no value`);
    const key = text.slice(space + 1, equals);
    const value = text.slice(equals + 1, end - 1) as ByteString;
    if (key === "" || key.includes("\0")) throw corrupt(`its PAX record at byte ${at} has no usable key`);
    if (NAMES.has(key) && value.includes("\0")) throw corrupt(`its PAX ${key} contains a NUL`);
    records.set(key, value);
    at = end;
  }
  return records;
}

/** `[-]SECONDS[.FRACTION]` as whole seconds (rounded down) and nanoseconds. */
export function parsePaxTime(value: ByteString): { seconds: number; ns: number } {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(value);
  const whole = Number(match?.[2]);
  if (match === null || !Number.isSafeInteger(whole))
    throw corrupt(`its PAX mtime "${printable(value)}" is not a time`);
  const ns = Number((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  if (match[1] === "") return { seconds: whole, ns };
  return ns === 0 ? { seconds: whole === 0 ? 0 : -whole, ns: 0 } : { seconds: -whole - 1, ns: 1e9 - ns };
}

export function parsePaxNumber(key: string, value: ByteString): number {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw corrupt(`its PAX ${key} "${printable(value).slice(0, 40)}" is not a number`);
}

/** An empty value is an empty xattr, not a deletion: archives of file systems with empty xattrs have them. */
export function paxXattrs(records: PaxRecords): Map<ByteString, Uint8Array> {
  const xattrs = new Map<ByteString, Uint8Array>();
  for (const [key, value] of records) {
    if (key.startsWith(XATTR_KEY) && key.length > XATTR_KEY.length)
      xattrs.set(key.slice(XATTR_KEY.length) as ByteString, bytesOf(value));
  }
  return xattrs;
}
