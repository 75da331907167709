/**
 * What the loader needs to know of an ELF file: its interpreter, the libraries it names and where it wants them looked
 * for. The file is an image's, so nothing in it is believed: offsets, sizes and counts are bounded, and what makes no
 * sense is left out.
 *
 * Spec: System V ABI, "Object Files" and "Program Loading and Dynamic Linking".
 *
 * @module
 */
import { viewOf } from "../../base/struct.ts";

/** Bytes of a file, fewer where it ends; undefined when they cannot be had. */
export type ReadAt = (offset: number, length: number) => Uint8Array | undefined;

export interface Elf {
  /** Class, byte order and machine: libraries of another kind are passed over by the loader. */
  readonly kind: string;
  readonly interpreter: string | undefined;
  readonly needed: readonly string[];
  readonly rpath: readonly string[];
  readonly runpath: readonly string[];
}

const MAX_PROGRAM_HEADERS = 128;
const MAX_DYNAMIC = 64 << 10;
const MAX_STRING = 4096;
const MAX_NEEDED = 256;

const SEGMENT = { load: 1, dynamic: 2, interpreter: 3 } as const;
const TAG = { end: 0, needed: 1, strings: 5, rpath: 15, runpath: 29 } as const;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
}

/** Undefined for what is no ELF file, or a broken one. */
export function parseElf(readAt: ReadAt): Elf | undefined {
  const header = readAt(0, 64);
  if (header === undefined || header.byteLength < 52) return undefined;
  const view = viewOf(header);
  if (view.getUint32(0) !== 0x7f454c46) return undefined;
  const [bits, order] = [header[4] ?? 0, header[5] ?? 0];
  if ((bits !== 1 && bits !== 2) || (order !== 1 && order !== 2)) return undefined;
  if (bits === 2 && header.byteLength < 64) return undefined;
  const reader = new ElfReader(readAt, bits === 2, order === 1);
  const segments = reader.segments(view);
  const interpreter = segments.find(({ type }) => type === SEGMENT.interpreter);
  return {
    kind: `${bits} ${order} ${view.getUint16(18, order === 1)}`,
    interpreter: interpreter && reader.text(interpreter.offset, interpreter.fileSize),
    ...reader.dynamic(segments),
  };
}

class ElfReader {
  readonly #readAt: ReadAt;
  readonly #wide: boolean;
  readonly #little: boolean;

  constructor(readAt: ReadAt, wide: boolean, little: boolean) {
    this.#readAt = readAt;
    this.#wide = wide;
    this.#little = little;
  }

  /** A field of the file's word size. */
  #word(view: DataView, at: number): number {
    return this.#wide ? Number(view.getBigUint64(at, this.#little)) : view.getUint32(at, this.#little);
  }

  segments(header: DataView): Segment[] {
    const wide = this.#wide;
    const offset = this.#word(header, wide ? 32 : 28);
    const size = header.getUint16(wide ? 54 : 42, this.#little);
    const count = Math.min(header.getUint16(wide ? 56 : 44, this.#little), MAX_PROGRAM_HEADERS);
    const least = wide ? 56 : 32;
    const bytes = size < least ? undefined : this.#read(offset, size * count);
    if (bytes === undefined) return [];
    const view = viewOf(bytes);
    const found: Segment[] = [];
    for (let at = 0; at + least <= bytes.byteLength; at += size)
      found.push({
        type: view.getUint32(at, this.#little),
        offset: this.#word(view, at + (wide ? 8 : 4)),
        address: this.#word(view, at + (wide ? 16 : 8)),
        fileSize: this.#word(view, at + (wide ? 32 : 16)),
      });
    return found;
  }

  dynamic(segments: readonly Segment[]): Pick<Elf, "needed" | "rpath" | "runpath"> {
    const entries = this.#entries(segments.find(({ type }) => type === SEGMENT.dynamic));
    const address = entries.find(([tag]) => tag === TAG.strings)?.[1];
    const strings = address === undefined ? undefined : fileOffset(segments, address);
    const texts = (wanted: number): string[] =>
      entries
        .filter(([tag]) => tag === wanted)
        .slice(0, MAX_NEEDED)
        .flatMap(([, at]) => (strings === undefined ? [] : (this.text(strings + at, MAX_STRING) ?? [])));
    const paths = (tag: number): string[] => texts(tag).flatMap((text) => text.split(":").filter(Boolean));
    return { needed: texts(TAG.needed), rpath: paths(TAG.rpath), runpath: paths(TAG.runpath) };
  }

  #entries(segment: Segment | undefined): [tag: number, value: number][] {
    const bytes = segment && this.#read(segment.offset, Math.min(segment.fileSize, MAX_DYNAMIC));
    if (bytes === undefined) return [];
    const view = viewOf(bytes);
    const size = this.#wide ? 8 : 4;
    const found: [number, number][] = [];
    for (let at = 0; at + 2 * size <= bytes.byteLength; at += 2 * size) {
      const tag = this.#word(view, at);
      if (tag === TAG.end) break;
      found.push([tag, this.#word(view, at + size)]);
    }
    return found;
  }

  /** Up to the first NUL. Undefined when it has none, or is empty. */
  text(offset: number, size: number): string | undefined {
    const bytes = this.#read(offset, Math.min(size, MAX_STRING));
    const end = bytes?.indexOf(0) ?? -1;
    return bytes === undefined || end <= 0
      ? undefined
      : Buffer.from(bytes.subarray(0, end)).toString("latin1");
  }

  #read(offset: number, length: number): Uint8Array | undefined {
    if (!Number.isSafeInteger(offset) || offset < 0 || length <= 0) return undefined;
    return this.#readAt(offset, length);
  }
}

function fileOffset(segments: readonly Segment[], address: number): number | undefined {
  for (const { type, offset, address: start, fileSize } of segments)
    if (type === SEGMENT.load && address >= start && address < start + fileSize)
      return offset + (address - start);
  return undefined;
}
