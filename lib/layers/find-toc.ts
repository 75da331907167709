/**
 * Gets the table of contents of an eStargz or zstd:chunked layer: its place from an annotation or from the footer at the
 * layer's end, its bytes by one or two ranged requests, and proof of them from the digest in the layer's annotations,
 * which the manifest vouches for.
 *
 * Formats: containerd/stargz-snapshotter docs/estargz.md, containers/storage pkg/chunked.
 *
 * @module
 */
import { byteStringOf } from "../base/byte-string.ts";
import { decompressChunk } from "../base/compression.ts";
import { digestOf } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { type StreamFormat, streamStart } from "../base/stream-start.ts";
import { u64, viewOf } from "../base/struct.ts";
import type { Fetcher } from "../content/content.ts";
import { readAll } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import { BLOCK, HEADER, headerPath, parseNumber } from "../tar/header.ts";

export interface FoundToc {
  readonly json: Uint8Array;
  /** By what the layer's streams are compressed. */
  readonly compressor: StreamFormat;
  /** Bytes of the layer before the table of contents: all streams end there. */
  readonly dataSize: number;
}

/** Where a footer or an annotation says that the table is. */
interface TocPlace {
  readonly compressor: StreamFormat;
  readonly start: number;
  readonly end: number;
  /** 0 = not known. */
  readonly uncompressedSize: number;
  readonly dataSize: number;
}

/** Of a million entries. */
const MAX_TOC = 2 ** 29;
/** The footer, and small tables with it. */
const TAIL = 64 * 1024;

/** Whether the layer has a table of contents that its manifest vouches for. */
export function hasToc({ annotations = {} }: Descriptor): boolean {
  return annotations[ANNOTATION.stargzTocDigest] !== undefined || checksumOf(annotations) !== undefined;
}

/** @throws corrupt when footer, annotations and table contradict each other; what the fetcher throws */
export async function findToc(
  fetcher: Fetcher,
  layer: Descriptor,
  options: { readonly signal?: AbortSignal } = {},
): Promise<FoundToc> {
  const tail: { start: number; bytes: Uint8Array } = {
    start: Math.max(0, layer.size - TAIL),
    bytes: new Uint8Array(),
  };
  const read = async (start: number, end: number): Promise<Uint8Array> => {
    if (tail.bytes.byteLength > 0 && start >= tail.start)
      return tail.bytes.subarray(start - tail.start, end - tail.start);
    const body = await fetcher.fetch(layer, { ...options, range: { start, end } });
    return await readAll(body, end - start, `layer "${layer.digest}"`);
  };
  let place = annotatedPlace(layer);
  if (place === undefined) {
    tail.bytes = await read(tail.start, layer.size);
    place = footerPlace(tail.bytes, layer);
  }
  const { start, end, compressor, dataSize } = place;
  if (!(start < end && end <= layer.size && dataSize <= start))
    throw bad(layer, "it is not inside the layer");
  if (end - start > MAX_TOC || place.uncompressedSize > MAX_TOC)
    throw bad(layer, `it has ${Math.max(end - start, place.uncompressedSize)} bytes`);
  const stored = await read(start, end);
  if (stored.byteLength !== end - start) throw bad(layer, "the layer ends before it");
  const json = verifiedJson(stored, place, layer);
  return { json, compressor, dataSize };
}

function bad(layer: Descriptor, state: string): NydusError {
  return corrupt(`Cannot use the table of contents of layer "${layer.digest}": ${state}`);
}

type Annotations = Readonly<Record<string, string>>;

/** Podman and containerd write one annotation under two names. */
function checksumOf(annotations: Annotations): string | undefined {
  return annotations[ANNOTATION.zstdTocChecksum] ?? annotations[ANNOTATION.zstdTocChecksumOld];
}

/** "offset:size:uncompressed size:type", in bytes; type 1 is the only one. */
const POSITION = /^(\d{1,15}):(\d{1,15}):(\d{1,15}):1$/;

/** Bytes of the header of the skippable frame that the table is in. */
const SKIPPABLE_HEADER = 8;

function annotatedPlace(layer: Descriptor): TocPlace | undefined {
  const { annotations = {} } = layer;
  const position = annotations[ANNOTATION.zstdTocPosition] ?? annotations[ANNOTATION.zstdTocPositionOld];
  if (position === undefined) return undefined;
  const [, start, size, uncompressed] = POSITION.exec(position) ?? [];
  if (start === undefined) throw bad(layer, `its place is said to be "${position.slice(0, 100)}"`);
  return zstdPlace(Number(start), Number(size), Number(uncompressed));
}

function zstdPlace(start: number, size: number, uncompressedSize: number): TocPlace {
  return {
    compressor: "zstd",
    start,
    end: start + size,
    uncompressedSize,
    dataSize: start - SKIPPABLE_HEADER,
  };
}

/**
 * An empty gzip member whose extra field, behind a prefix, has the place in hexadecimal and then the name: today's, and
 * that of the first writers.
 */
const GZIP_FOOTERS = [
  { size: 51, prefix: "1a0053471600" },
  { size: 47, prefix: "1600" },
];
const GZIP_HEADER = 10;
const GZIP_WITH_EXTRA = "1f8b0804";
const HEX_OFFSET = /^[0-9a-f]{16}$/;

/** What the skippable frame at the end of a zstd:chunked layer holds: containerd's writer and podman's. */
const ZSTD_FOOTERS = [
  { size: 40, magic: "GnUlInUx" },
  { size: 64, magic: "GNUlInUx" },
];

const field = { start: u64(0), size: u64(8), uncompressedSize: u64(16) };

function footerPlace(tail: Uint8Array, layer: Descriptor): TocPlace {
  const last = (size: number): Buffer => Buffer.from(tail.subarray(Math.max(0, tail.byteLength - size)));
  for (const footer of GZIP_FOOTERS) {
    const start = gzipFooterOffset(last(footer.size), footer.prefix);
    if (start === undefined) continue;
    const end = layer.size - footer.size;
    return { compressor: "gzip", start, end, uncompressedSize: 0, dataSize: start };
  }
  for (const { size, magic } of ZSTD_FOOTERS) {
    const footer = last(size);
    if (footer.byteLength < size || footer.subarray(size - 8).toString("latin1") !== magic) continue;
    const view = viewOf(footer);
    return zstdPlace(
      field.start.read(view, 0),
      field.size.read(view, 0),
      field.uncompressedSize.read(view, 0),
    );
  }
  throw bad(layer, "the layer has no footer that says where it is");
}

function gzipFooterOffset(footer: Buffer, prefix: string): number | undefined {
  const at = GZIP_HEADER + prefix.length / 2;
  const offset = footer.toString("latin1", at, at + 16);
  const known =
    footer.toString("hex", 0, 4) === GZIP_WITH_EXTRA &&
    footer.toString("hex", GZIP_HEADER, at) === prefix &&
    footer.toString("latin1", at + 16, at + 22) === "STARGZ" &&
    HEX_OFFSET.test(offset);
  return known ? Number.parseInt(offset, 16) : undefined;
}

/** The checksum is that of the stored bytes, the TOC digest that of the JSON. Those that are given must both be right. */
function verifiedJson(stored: Uint8Array, place: TocPlace, layer: Descriptor): Uint8Array {
  const { annotations = {} } = layer;
  const checksum = checksumOf(annotations);
  const digest = annotations[ANNOTATION.stargzTocDigest];
  if (checksum === undefined && digest === undefined)
    throw new NydusError(
      "unsupported",
      `Cannot use the table of contents of layer "${layer.digest}": no annotation has its digest`,
    );
  if (checksum !== undefined && place.compressor === "zstd" && checksum !== digestOf(stored))
    throw bad(layer, `it has digest ${digestOf(stored)}, and its annotation says ${checksum}`);
  const json = place.compressor === "zstd" ? fromZstd(stored, place) : fromGzip(stored, layer);
  if (digest !== undefined && digest !== digestOf(json))
    throw bad(layer, `it has digest ${digestOf(json)}, and its annotation says ${digest}`);
  if (digest === undefined && place.compressor === "gzip") throw bad(layer, "its annotation is for zstd");
  return json;
}

function fromZstd(stored: Uint8Array, { uncompressedSize }: TocPlace): Uint8Array {
  return decompressChunk("zstd", stored, uncompressedSize);
}

const TOC_NAME = byteStringOf("stargz.index.json");

/** A tar of one file. */
function fromGzip(stored: Uint8Array, layer: Descriptor): Uint8Array {
  const header = streamStart("gzip", stored, BLOCK);
  if (headerPath(header) !== TOC_NAME) throw bad(layer, "another file is in its place");
  const size = parseNumber(header, HEADER.size) ?? 0;
  if (size === 0 || size > MAX_TOC) throw bad(layer, `it has ${size} bytes`);
  return streamStart("gzip", stored, BLOCK + size).subarray(BLOCK);
}
