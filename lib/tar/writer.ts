/**
 * Writes tar archives: ustar headers, and PAX records for what they have no room for. The same items always give the
 * same bytes, in the form that Go's archive/tar writes them, so that layers match those of other builders.
 *
 * @module
 */
import { type ByteString, byteStringOf, bytesOf, printable } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";
import type { TarHeader } from "./entry.ts";
import { BLOCK, HEADER, MAGIC_USTAR } from "./header.ts";
import { XATTR_KEY } from "./pax.ts";

/** What is left out is zero, root's or empty. */
export interface TarItem extends Partial<Omit<TarHeader, "kind" | "path">>, Pick<TarHeader, "kind" | "path"> {
  /** Exactly `size` bytes; without `size` the length of an array. */
  readonly body?: Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

const TYPES: Readonly<Record<TarHeader["kind"], string>> = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  char: "3",
  block: "4",
  directory: "5",
  fifo: "6",
};

/** Two zero blocks end an archive. */
export const TAR_END: Uint8Array = new Uint8Array(2 * BLOCK);

/** A whole archive, piece by piece. @throws corrupt when a body has not the size that its header says */
export async function* writeTar(
  items: Iterable<TarItem> | AsyncIterable<TarItem>,
): AsyncGenerator<Uint8Array> {
  for await (const item of items) {
    const size = sizeOf(item);
    yield tarHeader({ ...item, size });
    let written = 0;
    for await (const piece of pieces(item.body)) {
      written += piece.byteLength;
      if (written > size) break;
      yield piece;
    }
    if (written !== size)
      throw corrupt(
        `Cannot write tar entry "${printable(item.path)}": its body does not have the promised ${size} bytes`,
      );
    if (size % BLOCK !== 0) yield tarPadding(size);
  }
  yield TAR_END;
}

/** Zeros that follow a body of `size` bytes. */
export function tarPadding(size: number): Uint8Array {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}

function sizeOf({ kind, size, body }: TarItem): number {
  if (kind !== "file") return 0;
  return size ?? (body instanceof Uint8Array ? body.byteLength : 0);
}

function pieces(body: TarItem["body"]): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  if (body === undefined) return [];
  return body instanceof Uint8Array ? [body] : body;
}

/** The header blocks of one entry, extended ones included. The body and `tarPadding` are to follow. */
export function tarHeader(item: Omit<TarItem, "body">): Uint8Array {
  const records = paxRecords(item);
  if (records.size === 0) return ustarBlock(item, TYPES[item.kind]);
  const body = encodeRecords(records);
  const name = `PaxHeaders.0/${item.path.replace(/[^ -.0-~]/g, "_")}`.slice(
    0,
    HEADER.name.size,
  ) as ByteString;
  return Buffer.concat([
    ustarBlock({ kind: "file", path: name, size: body.byteLength }, "x"),
    body,
    tarPadding(body.byteLength),
    ustarBlock(item, TYPES[item.kind]),
  ]);
}

/** Octal digits of a field end with a NUL. */
function largest({ size }: { readonly size: number }): number {
  return 8 ** (size - 1) - 1;
}

function isAscii(text: ByteString): boolean {
  return /^[ -~]*$/.test(text);
}

/** What the plain header cannot say, in the order of the keys. */
function paxRecords(item: Omit<TarItem, "body">): Map<string, ByteString> {
  const { path, linkTarget = "" as ByteString, uid = 0, gid = 0, size = 0 } = item;
  const records = new Map<string, ByteString>();
  if (gid > largest(HEADER.gid)) records.set("gid", byteStringOf(String(gid)));
  if (linkTarget.length > HEADER.linkName.size || !isAscii(linkTarget)) records.set("linkpath", linkTarget);
  const time = paxTime(item);
  if (time !== undefined) records.set("mtime", time);
  if (!isAscii(path) || splitPath(path) === undefined) records.set("path", path);
  if (size > largest(HEADER.size)) records.set("size", byteStringOf(String(size)));
  if (uid > largest(HEADER.uid)) records.set("uid", byteStringOf(String(uid)));
  const xattrs = [...(item.xattrs ?? [])].map(([key, value]) => [key, Buffer.from(value).toString("latin1")]);
  for (const [key = "", value = ""] of xattrs.sort(([a = ""], [b = ""]) => (a < b ? -1 : 1))) {
    if (key === "" || /[=\0]/.test(key))
      throw corrupt(`Cannot write tar entry "${printable(path)}": PAX has no form for its xattr "${key}"`);
    records.set(XATTR_KEY + key, value as ByteString);
  }
  return new Map([...records].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function paxTime({ mtime = 0, mtimeNs = 0 }: Omit<TarItem, "body">): ByteString | undefined {
  if (mtimeNs === 0 && mtime >= 0 && mtime <= largest(HEADER.mtime)) return undefined;
  const fraction = (ns: number): string =>
    ns === 0 ? "" : `.${String(ns).padStart(9, "0").replace(/0+$/, "")}`;
  if (mtime >= 0 || mtimeNs === 0) return byteStringOf(`${mtime}${fraction(mtimeNs)}`);
  // -1 s + 0.25 s is written -0.75.
  return byteStringOf(`-${-mtime - 1}${fraction(1e9 - mtimeNs)}`);
}

/** Each record begins with its own length, digits included. */
function encodeRecords(records: ReadonlyMap<string, ByteString>): Uint8Array {
  const lines = [...records].map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = rest.length;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    return `${length}${rest}`;
  });
  return bytesOf(lines.join("") as ByteString);
}

interface SplitPath {
  readonly prefix: string;
  readonly name: string;
}

/** A long path goes into two fields if one of its slashes lets it. */
function splitPath(path: ByteString): SplitPath | undefined {
  if (path.length <= HEADER.name.size) return { prefix: "", name: path };
  // A directory's closing slash belongs to its name.
  const last = path.endsWith("/") ? path.length - 2 : path.length - 1;
  const slash = path.lastIndexOf("/", Math.min(last, HEADER.prefix.size));
  const name = path.slice(slash + 1);
  if (slash <= 0 || name === "" || name.length > HEADER.name.size) return undefined;
  return { prefix: path.slice(0, slash), name };
}

function ustarBlock(item: Omit<TarItem, "body">, type: string): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  const put = ({ offset, size }: { offset: number; size: number }, text: string): void => {
    block.write(text.slice(0, size), offset, "latin1");
  };
  const octal = (field: { offset: number; size: number }, value: number): void => {
    const fits = value >= 0 && value <= largest(field);
    put(field, `${(fits ? value : 0).toString(8).padStart(field.size - 1, "0")}\0`);
  };
  const { prefix, name } = splitPath(item.path) ?? { prefix: "", name: item.path };
  put(HEADER.name, name);
  put(HEADER.prefix, prefix);
  octal(HEADER.mode, item.mode ?? 0);
  octal(HEADER.uid, item.uid ?? 0);
  octal(HEADER.gid, item.gid ?? 0);
  octal(HEADER.size, item.size ?? 0);
  octal(HEADER.mtime, item.mtime ?? 0);
  put(HEADER.type, type);
  put(HEADER.linkName, item.linkTarget ?? "");
  put(HEADER.magic, MAGIC_USTAR);
  octal(HEADER.major, item.major ?? 0);
  octal(HEADER.minor, item.minor ?? 0);
  put(HEADER.checksum, " ".repeat(HEADER.checksum.size));
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(HEADER.checksum, `${sum.toString(8).padStart(6, "0")}\0 `);
  return block;
}
