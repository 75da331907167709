/**
 * Where the files of a tar archive lie, so that they can be read in place. Bodies are jumped over, not read.
 *
 * @module
 */
import type { FileHandle } from "node:fs/promises";
import { posix } from "node:path";
import { corrupt, type NydusError } from "../base/error.ts";
import {
  BLOCK,
  checksumMatches,
  HEADER,
  headerPath,
  isZeroBlock,
  parseNumber,
  parseText,
} from "../tar/header.ts";
import { type PaxRecords, parsePax, parsePaxNumber } from "../tar/pax.ts";

export interface TarFile {
  /** Of the body, in the archive. */
  readonly offset: number;
  readonly size: number;
}

type Located = TarFile | { readonly link: string };

/** Archives of images hold some hundred files. */
const ENTRY_LIMIT = 100_000;
const EXTENSION_LIMIT = 2 ** 20;
/** Symbolic links in a row. */
const LINK_LIMIT = 8;

export class TarIndex {
  readonly #entries: ReadonlyMap<string, Located>;

  private constructor(entries: ReadonlyMap<string, Located>) {
    this.#entries = entries;
  }

  /** @throws corrupt when the file is not a whole tar archive */
  static async read(file: FileHandle, path: string): Promise<TarIndex> {
    return new TarIndex(await new Scanner(file, path, (await file.stat()).size).run());
  }

  /** The file of that name, through links. */
  get(name: string): TarFile | undefined {
    let found = this.#entries.get(normal(name));
    for (let links = 0; found !== undefined && "link" in found; links++) {
      if (links === LINK_LIMIT) return undefined;
      found = this.#entries.get(found.link);
    }
    return found;
  }
}

/** "./a//b" and "/a/b" are "a/b"; names that leave the archive match nothing. */
function normal(name: string): string {
  return posix.normalize(`/${name}`).slice(1);
}

class Scanner {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #size: number;
  readonly #entries = new Map<string, Located>();
  #records: PaxRecords = new Map();
  #longName: string | undefined;
  #longLink: string | undefined;

  constructor(file: FileHandle, path: string, size: number) {
    this.#file = file;
    this.#path = path;
    this.#size = size;
  }

  async run(): Promise<ReadonlyMap<string, Located>> {
    for (let at = 0; at + BLOCK <= this.#size; ) {
      const block = await this.#bytes(at, BLOCK);
      if (isZeroBlock(block)) break;
      if (!checksumMatches(block)) throw this.#bad(at, this.#kindOfRubbish(block, at));
      const type = String.fromCharCode(block[HEADER.type.offset] ?? 0);
      const extension = "xgLK".includes(type);
      const size = this.#sizeOf(block, extension, at);
      const body = at + BLOCK;
      if (body + size > this.#size) throw this.#bad(at, "the archive ends inside an entry");
      if (extension) await this.#extend(type, body, size);
      else this.#add(block, type, { offset: body, size });
      at = body + Math.ceil(size / BLOCK) * BLOCK;
    }
    return this.#entries;
  }

  #sizeOf(block: Uint8Array, extension: boolean, at: number): number {
    const said = extension ? undefined : this.#records.get("size");
    const size = said === undefined ? parseNumber(block, HEADER.size) : parsePaxNumber("size", said);
    if (size === undefined || !Number.isSafeInteger(size) || size < 0)
      throw this.#bad(at, "the size of an entry is not a number");
    return size;
  }

  async #extend(type: string, offset: number, size: number): Promise<void> {
    if (size > EXTENSION_LIMIT) throw this.#bad(offset, `an extended header has ${size} bytes`);
    const bytes = await this.#bytes(offset, size);
    const text = Buffer.from(bytes).toString("latin1").split("\0", 1)[0];
    if (type === "x") this.#records = parsePax(bytes);
    else if (type === "L") this.#longName = text;
    else if (type === "K") this.#longLink = text;
  }

  #add(block: Uint8Array, type: string, file: TarFile): void {
    const name = normal(this.#records.get("path") ?? this.#longName ?? headerPath(block));
    const link = this.#records.get("linkpath") ?? this.#longLink ?? parseText(block, HEADER.linkName);
    if (type === "2") this.#entries.set(name, { link: normal(posix.join(posix.dirname(name), link)) });
    else if (type === "1") this.#entries.set(name, { link: normal(link) });
    else if (type === "0" || type === "\0" || type === "7") this.#entries.set(name, file);
    if (this.#entries.size > ENTRY_LIMIT)
      throw this.#bad(file.offset, `it has more than ${ENTRY_LIMIT} entries`);
    this.#records = new Map();
    this.#longName = undefined;
    this.#longLink = undefined;
  }

  async #bytes(at: number, size: number): Promise<Uint8Array> {
    const buffer = new Uint8Array(size);
    const { bytesRead } = await this.#file.read(buffer, 0, size, at);
    if (bytesRead < size) throw this.#bad(at, "the archive ends here");
    return buffer;
  }

  #kindOfRubbish(block: Uint8Array, at: number): string {
    const gzip = block[0] === 0x1f && block[1] === 0x8b;
    const zstd = block[0] === 0x28 && block[1] === 0xb5;
    return at === 0 && (gzip || zstd) ? "it is compressed; decompress it first" : "this is not a tar header";
  }

  #bad(at: number, state: string): NydusError {
    return corrupt(`Cannot read archive "${this.#path}" at offset ${at}: ${state}`);
  }
}
