/**
 * A tar writer for tests, written apart from lib/tar so that the two can disagree. It writes each feature in the
 * dialect asked for (PAX records, GNU long names and base-256 numbers, ustar prefixes) and checks nothing: hostile
 * archives are made with it too.
 *
 * @module
 */

export type TarType = "file" | "hardlink" | "symlink" | "char" | "block" | "dir" | "fifo";

/** Strings here are byte strings: one character a byte. */
export interface TarItem {
  readonly path: string;
  readonly type: TarType;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Whole seconds, negative before 1970. */
  readonly mtime?: number;
  readonly mtimeNs?: number;
  readonly data?: Uint8Array;
  readonly target?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
  /** How what does not fit a plain header is written. */
  readonly dialect?: "pax" | "gnu";
  /** Written into the header instead of the true size. */
  readonly claimedSize?: number;
}

const FLAGS: Readonly<Record<TarType, string>> = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  char: "3",
  block: "4",
  dir: "5",
  fifo: "6",
};

const BLOCK = 512;
const EMPTY = new Uint8Array(0);

function latin1(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** A whole archive with its two closing blocks. */
export function tarOf(items: Iterable<TarItem>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const item of items) parts.push(...itemParts(item));
  parts.push(new Uint8Array(2 * BLOCK));
  return Buffer.concat(parts);
}

function itemParts(item: TarItem): Uint8Array[] {
  const data = item.data ?? EMPTY;
  const size = item.claimedSize ?? data.byteLength;
  const before = item.dialect === "gnu" ? gnuParts(item) : paxParts(item, size);
  return [...before, header(item, FLAGS[item.type], item.path, size), ...padded(data)];
}

function padded(data: Uint8Array): Uint8Array[] {
  const rest = data.byteLength % BLOCK;
  return rest === 0 ? [data] : [data, new Uint8Array(BLOCK - rest)];
}

/** GNU's dialect has no place for xattrs or fractions of seconds. */
function gnuParts(item: TarItem): Uint8Array[] {
  const long = (flag: string, text: string): Uint8Array[] => {
    const data = latin1(`${text}\0`);
    const carrier: TarItem = { path: "././@LongLink", type: "file", dialect: "gnu" };
    return [header(carrier, flag, carrier.path, data.byteLength), ...padded(data)];
  };
  return [
    ...((item.target?.length ?? 0) > 100 ? long("K", item.target ?? "") : []),
    ...(item.path.length > 100 ? long("L", item.path) : []),
  ];
}

function paxParts(item: TarItem, size: number): Uint8Array[] {
  const records: [string, Uint8Array][] = [];
  const text = (key: string, value: string): void => void records.push([key, latin1(value)]);
  if (splitPath(item.path) === undefined) text("path", item.path);
  if ((item.target?.length ?? 0) > 100) text("linkpath", item.target ?? "");
  if ((item.uid ?? 0) > 0o7777777) text("uid", String(item.uid));
  if ((item.gid ?? 0) > 0o7777777) text("gid", String(item.gid));
  if (size > 0o77777777777) text("size", String(size));
  const time = item.mtime ?? 0;
  if (time < 0 || time > 0o77777777777 || (item.mtimeNs ?? 0) > 0) text("mtime", decimalTime(item));
  for (const [key, value] of item.xattrs ?? []) records.push([`SCHILY.xattr.${key}`, value]);
  return records.length > 0 ? paxHeader(records) : [];
}

/** Seconds as a decimal number: -1.5 stands for second -2 and half a billion nanoseconds. */
function decimalTime(item: TarItem): string {
  const total = BigInt(item.mtime ?? 0) * 1_000_000_000n + BigInt(item.mtimeNs ?? 0);
  const size = total < 0n ? -total : total;
  const fraction = String(size % 1_000_000_000n)
    .padStart(9, "0")
    .replace(/0+$/, "");
  return `${total < 0n ? "-" : ""}${size / 1_000_000_000n}${fraction === "" ? "" : `.${fraction}`}`;
}

function paxHeader(records: readonly [string, Uint8Array][]): Uint8Array[] {
  const data = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  const carrier: TarItem = { path: "PaxHeaders/entry", type: "file" };
  return [header(carrier, "x", carrier.path, data.byteLength), ...padded(data)];
}

/** `LENGTH key=value\n`, where LENGTH counts itself. */
function paxRecord(key: string, value: Uint8Array): Uint8Array {
  const body = key.length + value.byteLength + 3;
  let length = body + String(body).length;
  if (body + String(length).length > length) length++;
  return Buffer.concat([latin1(`${length} ${key}=`), value, latin1("\n")]);
}

/** ustar's prefix and name, or undefined when the path does not split at a slash. */
function splitPath(path: string): [prefix: string, name: string] | undefined {
  if (path.length <= 100) return ["", path];
  for (let at = path.indexOf("/"); at >= 0 && at <= 155; at = path.indexOf("/", at + 1)) {
    const name = path.slice(at + 1);
    if (at > 0 && name.length <= 100 && name !== "") return [path.slice(0, at), name];
  }
  return undefined;
}

function header(item: TarItem, flag: string, path: string, size: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  const put = (at: number, text: string, room: number): void => block.set(latin1(text).subarray(0, room), at);
  const gnu = item.dialect === "gnu";
  const [prefix, name] = gnu ? ["", path] : (splitPath(path) ?? ["", path]);
  put(0, name, 100);
  number(block, 100, 8, item.mode ?? 0o644, gnu);
  number(block, 108, 8, item.uid ?? 0, gnu);
  number(block, 116, 8, item.gid ?? 0, gnu);
  number(block, 124, 12, size, gnu);
  number(block, 136, 12, item.mtime ?? 0, gnu);
  put(156, flag, 1);
  put(157, item.target ?? "", 100);
  put(257, gnu ? "ustar  \0" : "ustar\x0000", 8);
  number(block, 329, 8, item.major ?? 0, gnu);
  number(block, 337, 8, item.minor ?? 0, gnu);
  put(345, prefix, 155);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `, 8);
  return block;
}

/** Octal where it fits; otherwise base-256 in GNU's dialect and zero in PAX's, where a record has the number. */
function number(block: Uint8Array, at: number, room: number, value: number, gnu: boolean): void {
  const octal = value >= 0 ? value.toString(8).padStart(room - 1, "0") : "";
  if (value >= 0 && octal.length < room) block.set(latin1(`${octal}\0`), at);
  else if (!gnu) block.set(latin1(`${"0".repeat(room - 1)}\0`), at);
  else {
    let rest = BigInt.asUintN(room * 8, BigInt(value));
    for (let i = room - 1; i >= 0; i--) {
      block[at + i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    block[at] = (block[at] ?? 0) | 0x80;
  }
}
