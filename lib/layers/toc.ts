/**
 * The entries of a table of contents, checked: JSON of the one form that CRFS, eStargz and zstd:chunked share.
 *
 * What the table says is as good as the layer itself, since its digest is in the manifest; what it says may still be
 * nonsense. Some of it is no nonsense but cannot be served from the table (`unsupported`): then the layer is indexed like
 * any other.
 *
 * @module
 */
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { isDigest } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import type { TarHeader, TarKind } from "../tar/entry.ts";
import { shownPath } from "../tree/path.ts";

/** A part of a file that is compressed in a stream of its own, or with others in one. */
export interface TocChunk {
  /** In the file. */
  readonly fileOffset: number;
  readonly size: number;
  /** SHA-256, 32 bytes. */
  readonly digest: Uint8Array;
  /** Where its stream starts in the layer. */
  readonly offset: number;
  /** Where the next stream starts, or the data ends; never before `offset` + 1. */
  readonly end: number;
  /** Bytes of what the stream expands to before the chunk. */
  readonly skip: number;
}

/** As its tar header, and where its data is. */
export interface TocEntry extends TarHeader {
  /** Of files. */
  readonly chunks: readonly TocChunk[];
}

const VERSION = 1;
const MAX_ENTRIES = 10_000_000;

const KINDS: ReadonlyMap<string, Exclude<TarKind, "file">> = new Map([
  ["dir", "directory"],
  ["symlink", "symlink"],
  ["hardlink", "hardlink"],
  ["char", "char"],
  ["block", "block"],
  ["fifo", "fifo"],
]);

type Json = Readonly<Record<string, unknown>>;

/**
 * @param dataSize bytes of the layer that hold streams
 * @throws corrupt; unsupported when the layer cannot be served from this table
 */
export function parseToc(json: Uint8Array, dataSize: number): TocEntry[] {
  const entries = entriesOf(json);
  const places = new StreamPlaces(entries, dataSize);
  const found: TocEntry[] = [];
  for (let i = 0; i < entries.length; ) {
    const entry = entries[i] ?? {};
    // Chunks belong to the file before them.
    let next = i + 1;
    while (entries[next]?.type === "chunk") next++;
    if (entry.type === "reg") found.push(fileOf(entries.slice(i, next), places));
    else if (next > i + 1 || entry.type === "chunk") throw wrong(entry, "it has chunks and is no file");
    else found.push(otherOf(entry));
    i = next;
  }
  return found;
}

function entriesOf(json: Uint8Array): readonly Json[] {
  let table: unknown;
  try {
    table = JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString("utf8"));
  } catch (cause) {
    throw corrupt("Cannot use a table of contents: it is not JSON", { cause });
  }
  if (!isRecord(table) || !Array.isArray(table.entries))
    throw corrupt("Cannot use a table of contents: it has no entries");
  if (table.version !== VERSION)
    throw cannot(`its version is ${JSON.stringify(table.version)?.slice(0, 20)}, not ${VERSION}`);
  if (table.entries.length > MAX_ENTRIES)
    throw corrupt(`Cannot use a table of contents: it has too many entries`);
  if (!table.entries.every(isRecord)) throw corrupt("Cannot use a table of contents: an entry is no object");
  return table.entries;
}

function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function cannot(state: string): NydusError {
  return new NydusError("unsupported", `Cannot use a table of contents: ${state}`);
}

function wrong(entry: Json, state: string): NydusError {
  const name = typeof entry.name === "string" ? shownPath(byteStringOf(entry.name)) : "";
  return corrupt(`Cannot use entry "${name}" of a table of contents: ${state}`);
}

/** Absent means 0, as Go leaves zeros out. */
function count(entry: Json, key: string): number {
  const value = entry[key] ?? 0;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw wrong(entry, `its ${key} is not a count`);
}

function text(entry: Json, key: string): string {
  const value = entry[key] ?? "";
  if (typeof value === "string") return value;
  throw wrong(entry, `its ${key} is no text`);
}

/** Go's JSON puts U+FFFD where a name is not UTF-8: the tar knows the name, the table does not. */
function name(entry: Json, key: string): ByteString {
  const value = text(entry, key);
  if (value.includes("\ufffd")) throw cannot(`the true bytes of name "${value.slice(0, 100)}" are lost`);
  return byteStringOf(value);
}

function headerOf(entry: Json, kind: TarKind): TarHeader {
  const isLink = kind === "symlink" || kind === "hardlink";
  return {
    kind,
    path: name(entry, "name"),
    linkTarget: isLink ? name(entry, "linkName") : byteStringOf(""),
    major: count(entry, "devMajor"),
    minor: count(entry, "devMinor"),
    size: kind === "file" ? count(entry, "size") : 0,
    mode: count(entry, "mode") & 0o7777,
    uid: count(entry, "uid"),
    gid: count(entry, "gid"),
    ...timeOf(entry),
    xattrs: xattrsOf(entry),
  };
}

/** RFC 3339, with years past 9999 as Go writes them. */
const TIME = /^(-?\d{4,6})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

function timeOf(entry: Json): Pick<TarHeader, "mtime" | "mtimeNs"> {
  const value = text(entry, "modtime");
  if (value === "") return { mtime: 0, mtimeNs: 0 };
  const match = TIME.exec(value);
  if (match === null) throw wrong(entry, `its time "${value.slice(0, 40)}" is none`);
  const [, year, month, day, hour, minute, second, fraction = "", zone = "Z"] = match;
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  date.setUTCHours(Number(hour), Number(minute), Number(second));
  const mtime = date.getTime() / 1000 - zoneSeconds(zone);
  if (!Number.isSafeInteger(mtime)) throw wrong(entry, `its time "${value}" is none`);
  return { mtime, mtimeNs: Number(fraction.padEnd(9, "0")) };
}

function zoneSeconds(zone: string): number {
  if (zone === "Z") return 0;
  const [hours, minutes] = zone.slice(1).split(":").map(Number);
  return (zone.startsWith("-") ? -1 : 1) * ((hours ?? 0) * 3600 + (minutes ?? 0) * 60);
}

const NO_XATTRS: TarHeader["xattrs"] = new Map();
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

function xattrsOf(entry: Json): TarHeader["xattrs"] {
  const { xattrs } = entry;
  if (xattrs === undefined || xattrs === null) return NO_XATTRS;
  if (!isRecord(xattrs)) throw wrong(entry, "its xattrs are none");
  const found = new Map<ByteString, Uint8Array>();
  for (const [key, value] of Object.entries(xattrs)) {
    if (key.includes("\ufffd")) throw cannot("the true bytes of an xattr's name are lost");
    if (value !== null && (typeof value !== "string" || !BASE64.test(value)))
      throw wrong(entry, `its xattr "${key.slice(0, 100)}" is not base64`);
    found.set(byteStringOf(key), Buffer.from(value ?? "", "base64"));
  }
  return found;
}

function otherOf(entry: Json): TocEntry {
  const kind = KINDS.get(text(entry, "type"));
  if (kind === undefined) throw wrong(entry, `its type "${text(entry, "type").slice(0, 40)}" is not known`);
  return { ...headerOf(entry, kind), chunks: [] };
}

/**
 * Where each stream ends: where the next one with data starts, whichever file that is of. podman's `endOffset` is not
 * looked at: with the headers that follow, streams lie back to back, and neighbours come with one request.
 */
class StreamPlaces {
  readonly #starts: readonly number[];
  readonly #dataSize: number;

  constructor(entries: readonly Json[], dataSize: number) {
    const starts = entries.flatMap((entry) => (holdsData(entry) ? [count(entry, "offset")] : []));
    this.#starts = [...new Set(starts)].filter((start) => start > 0).sort((a, b) => a - b);
    this.#dataSize = dataSize;
  }

  endOf(entry: Json, offset: number): number {
    let low = 0;
    for (let high = this.#starts.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    const end = Math.min(this.#starts[low] ?? this.#dataSize, this.#dataSize);
    if (offset < end) return end;
    throw wrong(entry, `its data at ${offset} is past the end of the layer's`);
  }
}

function holdsData({ type, size }: Json): boolean {
  return type === "chunk" || (type === "reg" && typeof size === "number" && size > 0);
}

/** @param parts the file's own entry, and those of its further chunks */
function fileOf(parts: readonly Json[], places: StreamPlaces): TocEntry {
  const entry = parts[0] ?? {};
  const header = headerOf(entry, "file");
  const { size } = header;
  if (size === 0) {
    if (parts.length > 1) throw wrong(entry, "it is empty and has chunks");
    return { ...header, chunks: [] };
  }
  const chunks: TocChunk[] = [];
  let at = 0;
  for (const [i, part] of parts.entries()) {
    if (count(part, "chunkOffset") !== at) throw wrong(entry, `its chunk ${i} does not start at ${at}`);
    const chunk = chunkOf(part, entry, at, parts.length === 1, places);
    at += chunk.size;
    chunks.push(chunk);
  }
  if (at !== size) throw wrong(entry, `its chunks have ${at} bytes and it has ${size}`);
  return { ...header, chunks };
}

function chunkOf(part: Json, file: Json, fileOffset: number, only: boolean, places: StreamPlaces): TocChunk {
  const rest = count(file, "size") - fileOffset;
  const size = count(part, "chunkSize") || rest;
  if (size > rest || size === 0) throw wrong(file, `its chunks have more bytes than it has`);
  // A file of one chunk may have the digest of the file instead.
  const digest = text(part, "chunkDigest") || (only ? text(part, "digest") : "");
  if (digest === "") throw cannot("not all chunks have a digest");
  if (!isDigest(digest)) throw cannot(`digest "${digest.slice(0, 80)}" is not SHA-256`);
  const offset = count(part, "offset");
  return {
    fileOffset,
    size,
    digest: Buffer.from(digest.slice("sha256:".length), "hex"),
    offset,
    end: places.endOf(file, offset),
    skip: count(part, "innerOffset"),
  };
}
