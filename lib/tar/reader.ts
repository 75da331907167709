/**
 * Reads tar archives as a stream of entries: v7, ustar, star, PAX (global headers too) and GNU long names. What
 * follows the end marker is read and ignored, and a missing end marker is forgiven, as container runtimes do; an archive
 * cut anywhere else is corrupt.
 *
 * @module
 */
import { type ByteString, byteString, printable } from "../base/byte-string.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { ByteQueue } from "./byte-queue.ts";
import type { TarEntry, TarHeader, TarKind } from "./entry.ts";
import { BLOCK, checksumMatches, HEADER, headerPath, isZeroBlock, parseNumber, parseText } from "./header.ts";
import { type PaxRecords, parsePax, parsePaxNumber, parsePaxTime, paxXattrs } from "./pax.ts";

export type { TarEntry, TarHeader, TarKind } from "./entry.ts";

export interface ReadTarOptions {
  readonly signal?: AbortSignal;
}

/** Go's limit, and thereby containerd's, for the body of one extended header or long name. */
const MAX_EXTENSION = 2 ** 20;
/** What all extended headers of one entry, or all global ones, may have together. */
const MAX_EXTENSIONS = 4 * MAX_EXTENSION;
/** Owner ids have 32 bits in Linux. */
const MAX_ID = 0xffff_ffff;

const KINDS: Readonly<Record<string, TarKind>> = {
  "\0": "file",
  "0": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "char",
  "4": "block",
  "5": "directory",
  "6": "fifo",
  // "Contiguous" files, of systems that had them.
  "7": "file",
};

/** Headers that speak about all entries behind them. */
interface Globals {
  readonly records: PaxRecords;
  size: number;
}

/** Headers that speak about the entry behind them. */
interface Extensions {
  readonly records: PaxRecords;
  size: number;
  longName: ByteString | undefined;
  longLink: ByteString | undefined;
}

/**
 * Entries in archive order. A body must be read before the next entry is asked for, or it is skipped.
 *
 * @throws corrupt with the entry's name and offset; unsupported for entries that no container runtime unpacks
 */
export async function* readTar(
  source: AsyncIterable<Uint8Array>,
  options: ReadTarOptions = {},
): AsyncGenerator<TarEntry> {
  const queue = new ByteQueue(source, options.signal);
  const globals: Globals = { records: new Map(), size: 0 };
  try {
    for (;;) {
      const offset = queue.position;
      const header = await readHeader(queue, globals, offset);
      if (header === undefined) break;
      const body = new Body(queue, header, offset);
      yield { ...header, offset, dataOffset: queue.position, body };
      await body.finish();
    }
    await queue.drain();
  } finally {
    await queue.close();
  }
}

/** The next entry's header with everything that extended headers say about it; undefined at the end. */
async function readHeader(
  queue: ByteQueue,
  globals: Globals,
  offset: number,
): Promise<TarHeader | undefined> {
  const extensions: Extensions = { records: new Map(), size: 0, longName: undefined, longLink: undefined };
  let extended = false;
  for (;;) {
    const at = queue.position;
    const block = await nextBlock(queue);
    if (block === undefined) {
      if (extended)
        throw corrupt(`Cannot read the tar: it ends behind an extended header at offset ${offset}`);
      return undefined;
    }
    const type = String.fromCharCode(block[HEADER.type.offset] ?? 0);
    try {
      if (!checksumMatches(block)) throw corrupt("its header checksum is wrong");
      if (!(await readExtension(queue, block, type, globals, extensions)))
        return combine(block, type, globals, extensions);
      extended = extended || type !== "g";
    } catch (error) {
      throw located(error, block, extensions, at);
    }
  }
}

/** Adds entry and offset to what went wrong. */
function located(error: unknown, block: Uint8Array, extensions: Extensions, offset: number): unknown {
  if (!(error instanceof NydusError) || error.code === "cancelled" || error.message.startsWith("Cannot "))
    return error;
  const path = extensions.records.get("path") ?? extensions.longName ?? headerPath(block);
  const name = printable(path.slice(0, 200) as ByteString);
  return new NydusError(error.code, `Cannot read tar entry "${name}" at offset ${offset}: ${error.message}`);
}

/** Two zero blocks end an archive; so does the end of the stream. */
async function nextBlock(queue: ByteQueue): Promise<Uint8Array | undefined> {
  const at = queue.position;
  const block = await queue.take(BLOCK);
  if (block.byteLength === 0) return undefined;
  if (block.byteLength < BLOCK)
    throw corrupt(`Cannot read the tar: it ends inside the header at offset ${at}`);
  if (!isZeroBlock(block)) return block;
  const second = await queue.take(BLOCK);
  if (isZeroBlock(second)) return undefined;
  throw corrupt(`Cannot read the tar: a lone zero block at offset ${at}`);
}

/** Takes in an extended header or long name; false when the block is an entry's own header. */
async function readExtension(
  queue: ByteQueue,
  block: Uint8Array,
  type: string,
  globals: Globals,
  extensions: Extensions,
): Promise<boolean> {
  if (!"xXgLK".includes(type)) return false;
  const size = parseNumber(block, HEADER.size);
  if (size === undefined || size < 0) throw corrupt("the size of its extended header is not a number");
  if (size > MAX_EXTENSION)
    throw corrupt(`its extended header has ${size} bytes, more than ${MAX_EXTENSION}`);
  const owner = type === "g" ? globals : extensions;
  owner.size += size;
  if (owner.size > MAX_EXTENSIONS)
    throw corrupt(`its extended headers have more than ${MAX_EXTENSIONS} bytes`);
  const bytes = await queue.take(size);
  if (bytes.byteLength < size || (await queue.skip(padding(size))) > 0)
    throw corrupt("the archive ends inside its extended header");
  if (type === "g") merge(globals.records, parsePax(bytes));
  else if (type === "x" || type === "X") merge(extensions.records, parsePax(bytes));
  else if (type === "L") extensions.longName = untilNul(bytes);
  else extensions.longLink = untilNul(bytes);
  return true;
}

function merge(into: PaxRecords, records: PaxRecords): void {
  for (const [key, value] of records) into.set(key, value);
}

function untilNul(bytes: Uint8Array): ByteString {
  return byteString(bytes).split("\0", 1)[0] as ByteString;
}

function padding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

function combine(block: Uint8Array, type: string, globals: Globals, extensions: Extensions): TarHeader {
  const records =
    globals.records.size === 0 ? extensions.records : new Map([...globals.records, ...extensions.records]);
  refuseSparse(type, records);
  const path = text(records, "path") ?? extensions.longName ?? headerPath(block);
  const kind = kindOf(type, path);
  if (path === "") throw corrupt("it has no name");
  const time = text(records, "mtime");
  const { seconds, ns } =
    time === undefined ? { seconds: number(block, "mtime"), ns: 0 } : parsePaxTime(time);
  const device = kind === "char" || kind === "block";
  const size = paxNumber(records, "size") ?? number(block, "size");
  if (size < 0) throw corrupt(`its size ${size} is negative`);
  const link = kind === "hardlink" || kind === "symlink";
  return {
    kind,
    path,
    linkTarget: link
      ? (text(records, "linkpath") ?? extensions.longLink ?? parseText(block, HEADER.linkName))
      : ("" as ByteString),
    mode: number(block, "mode") & 0o7777,
    uid: id("uid", paxNumber(records, "uid") ?? number(block, "uid")),
    gid: id("gid", paxNumber(records, "gid") ?? number(block, "gid")),
    mtime: seconds,
    mtimeNs: ns,
    xattrs: paxXattrs(records),
    major: device ? number(block, "major") : 0,
    minor: device ? number(block, "minor") : 0,
    // Only files have a body: a size in the header of another kind is about the thing linked to, or rubbish.
    size: kind === "file" ? size : 0,
  };
}

function kindOf(type: string, path: ByteString): TarKind {
  const kind = KINDS[type];
  if (kind === undefined)
    throw new NydusError("unsupported", `entries of type ${JSON.stringify(type)} are not files`);
  // v7 archives have no type for directories.
  return kind === "file" && path.endsWith("/") ? "directory" : kind;
}

function refuseSparse(type: string, records: PaxRecords): void {
  const sparse = type === "S" || [...records.keys()].some((key) => key.startsWith("GNU.sparse."));
  if (sparse) throw new NydusError("unsupported", "it is stored as a GNU sparse file");
}

/** By POSIX an empty value takes a record back. */
function text(records: PaxRecords, key: string): ByteString | undefined {
  return records.get(key) || undefined;
}

function paxNumber(records: PaxRecords, key: string): number | undefined {
  const value = text(records, key);
  return value === undefined ? undefined : parsePaxNumber(key, value);
}

function number(
  block: Uint8Array,
  name: "mode" | "uid" | "gid" | "size" | "mtime" | "major" | "minor",
): number {
  const value = parseNumber(block, HEADER[name]);
  if (value === undefined) throw corrupt(`its ${name} is not a number`);
  return value;
}

function id(name: string, value: number): number {
  if (value < 0 || value > MAX_ID) throw corrupt(`its ${name} ${value} does not fit 32 bits`);
  return value;
}

/** One entry's bytes on the queue. */
class Body implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  readonly #queue: ByteQueue;
  readonly #header: TarHeader;
  readonly #offset: number;
  #left: number;

  constructor(queue: ByteQueue, header: TarHeader, offset: number) {
    this.#queue = queue;
    this.#header = header;
    this.#offset = offset;
    this.#left = header.size;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#left === 0) return { done: true, value: undefined };
    let piece = this.#queue.ready(this.#left);
    if (piece.byteLength === 0) {
      if (!(await this.#queue.more())) throw this.#cut();
      piece = this.#queue.ready(this.#left);
    }
    this.#left -= piece.byteLength;
    return { done: false, value: piece };
  }

  /** Passes over what nobody read, and the padding. */
  async finish(): Promise<void> {
    const missing = await this.#queue.skip(this.#left + padding(this.#header.size));
    if (missing > 0) throw this.#cut();
    this.#left = 0;
  }

  #cut(): NydusError {
    const name = printable(this.#header.path.slice(0, 200) as ByteString);
    return corrupt(
      `Cannot read tar entry "${name}" at offset ${this.#offset}: the archive ends inside its ${this.#header.size} bytes`,
    );
  }
}
