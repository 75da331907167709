/**
 * How a blob file is divided: sections, each followed by a tar header that names it. The header comes after the data,
 * data is not padded, nothing marks the end; so the file is read backwards from its last 512 bytes.
 *
 * @module
 */
import { byteString } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";

export const FRAME_SIZE = 512;

export const SECTION = {
  data: "image.blob",
  chunkInfo: "blob.meta",
  digests: "blob.digest",
  bootstrap: "image.boot",
  toc: "rafs.blob.toc",
} as const;

/**
 * Two empty blocks: a tar ends here. containerd 1.6 unpacks every layer that a plain `ctr image pull` fetched, hashes all
 * of it, and takes what is behind the end for padding: such a blob is an empty layer to it.
 */
export const END_OF_ARCHIVE: Uint8Array = new Uint8Array(1024);

/** In a table of contents only: the last 4096 bytes of `blob.meta`. */
export const CHUNK_INFO_HEADER = "blob.meta.header";

/** More than any writer makes; a longer list is an attack. */
const MAX_SECTIONS = 32;

const FIELD = { name: 0, size: 124, mtime: 136, checksum: 148, type: 156, magic: 257 } as const;
const REGULAR = 0x30;
/** Eleven octal digits. */
const OCTAL_LIMIT = 2 ** 33;

function octal(value: number, digits: number): Uint8Array {
  return Buffer.from(`${value.toString(8).padStart(digits, "0")}\0`, "latin1");
}

/** GNU's form for sizes of 8 GiB and more: a marker bit, then big endian. */
function base256(value: number): Uint8Array {
  const out = new Uint8Array(12);
  const view = new DataView(out.buffer);
  out[0] = 0x80;
  view.setUint32(4, Math.floor(value / 2 ** 32));
  view.setUint32(8, value % 2 ** 32);
  return out;
}

/** Sum of all bytes, the checksum field taken as spaces. */
function checksumOf(frame: Uint8Array): number {
  let sum = 8 * 0x20;
  for (const [at, byte] of frame.entries()) {
    if (at < FIELD.checksum || at >= FIELD.checksum + 8) sum += byte;
  }
  return sum;
}

/** The 512 bytes behind a section's data. Mode and owner are left zero, as the reference does. */
export function encodeFrame(name: string, size: number): Uint8Array {
  const frame = new Uint8Array(FRAME_SIZE);
  frame.set(Buffer.from(name, "latin1"), FIELD.name);
  frame.set(size < OCTAL_LIMIT ? octal(size, 11) : base256(size), FIELD.size);
  frame.set(octal(0, 11), FIELD.mtime);
  frame[FIELD.type] = REGULAR;
  frame.set(Buffer.from("ustar  \0", "latin1"), FIELD.magic);
  frame.set(octal(checksumOf(frame), 7), FIELD.checksum);
  return frame;
}

export interface Section {
  readonly name: string;
  /** Of the data in the file. */
  readonly offset: number;
  readonly size: number;
}

function decodeFrame(frame: Uint8Array, end: number): { name: string; size: number } {
  const text = (at: number, length: number): string =>
    byteString(frame.subarray(at, at + length)).replace(/\0.*$/s, "");
  const stored = Number.parseInt(text(FIELD.checksum, 8), 8);
  if (stored !== checksumOf(frame) || !text(FIELD.magic, 8).startsWith("ustar"))
    throw corrupt(`Cannot read a blob's sections: there is no tar header before offset ${end}`);
  const size = decodeSize(frame.subarray(FIELD.size, FIELD.size + 12));
  const name = text(FIELD.name, 100);
  if (size <= end - FRAME_SIZE) return { name, size };
  throw corrupt(`Cannot read a blob's section "${name}": its size ${size} reaches past the file's start`);
}

function decodeSize(field: Uint8Array): number {
  if (field[0] !== 0x80) {
    const digits = byteString(field).replace(/[\0 ]+$/, "");
    return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.POSITIVE_INFINITY;
  }
  const view = new DataView(field.buffer, field.byteOffset, field.byteLength);
  return view.getUint32(4) * 2 ** 32 + view.getUint32(8);
}

/** Exactly these bytes of the file. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * All sections, in file order.
 *
 * @param size of the blob file
 * @throws corrupt unless headers and data cover the file exactly
 */
export async function readSections(read: ReadAt, size: number): Promise<Section[]> {
  const sections: Section[] = [];
  for (let end = size; end > 0; ) {
    if (end < FRAME_SIZE || sections.length === MAX_SECTIONS)
      throw corrupt(`Cannot read a blob's sections: the first ${end} bytes belong to none`);
    const section = decodeFrame(await read(end - FRAME_SIZE, FRAME_SIZE), end);
    end -= FRAME_SIZE + section.size;
    sections.push({ name: section.name, size: section.size, offset: end });
  }
  return sections.reverse();
}
