/**
 * The table of contents of a blob: one entry a section, 128 bytes each, as the last section of the file. It does not
 * list itself, and splits `blob.meta` into the array and its header.
 *
 * @module
 */
import { byteString } from "../base/byte-string.ts";
import type { Compressor } from "../base/compression.ts";
import { corrupt } from "../base/error.ts";
import { bytes, struct, u32, u64, viewOf } from "../base/struct.ts";

/** `TocEntry` of the reference. */
const record = struct(128, {
  flags: u32(0),
  name: bytes(8, 16),
  digest: bytes(24, 32),
  offset: u64(56),
  compressedSize: u64(64),
  uncompressedSize: u64(72),
});

/** Exactly one of these; gzip cannot be said. */
const FLAGS = { none: 1, zstd: 2, lz4_block: 4 } as const;
const KNOWN_FLAGS = 0xf;

export interface TocEntry {
  readonly name: string;
  readonly compressor: Exclude<Compressor, "gzip">;
  /** SHA-256 of the uncompressed content; for `image.blob` of the stored data and the tar header behind it. */
  readonly digest: Uint8Array;
  /** In the blob file. */
  readonly offset: number;
  readonly compressedSize: number;
  readonly uncompressedSize: number;
}

export function encodeToc(entries: readonly TocEntry[]): Uint8Array {
  const out = new Uint8Array(entries.length * record.size);
  const view = viewOf(out);
  for (const [index, { compressor, name, ...rest }] of entries.entries()) {
    record.write(view, index * record.size, {
      ...rest,
      flags: FLAGS[compressor],
      // "blob.meta.header" fills the field: no terminator.
      name: Buffer.from(name, "latin1"),
    });
  }
  return out;
}

export function decodeToc(toc: Uint8Array): TocEntry[] {
  if (toc.byteLength % record.size !== 0)
    throw corrupt(
      `Cannot read the table of contents: ${toc.byteLength} bytes are not a whole number of entries`,
    );
  const view = viewOf(toc);
  return Array.from({ length: toc.byteLength / record.size }, (_, i) => {
    const { flags, name, ...rest } = record.read(view, i * record.size);
    return { ...rest, name: byteString(name).replace(/\0+$/, ""), compressor: compressorOf(flags) };
  });
}

function compressorOf(flags: number): TocEntry["compressor"] {
  const names = Object.keys(FLAGS) as TocEntry["compressor"][];
  const found = names.find((name) => FLAGS[name] === (flags & KNOWN_FLAGS));
  if (found !== undefined) return found;
  throw corrupt(`Cannot read the table of contents: flags ${flags} name no compressor`);
}
