/**
 * Writes eStargz and zstd:chunked layers for tests, as containerd's and podman's writers lay them out, apart from
 * lib/layers: gzip members or zstd frames, a table of contents, a footer, annotations. It checks nothing, and lets a test
 * change the table before it is written: hostile layers are made with it too.
 *
 * @module
 */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { type TarItem, type TarType, tarOf } from "./tar-builder.ts";

/** podman: chunks of many sizes, each in a frame of its own, headers in frames between them. */
export type TocFormat = "estargz" | "zstd:chunked" | "podman";

export interface TocOptions {
  readonly format: TocFormat;
  /** Largest chunk of a file. */
  readonly chunkSize?: number;
  /** A stream is only ended once it has so many bytes (eStargz's `innerOffset`). */
  readonly minStream?: number;
  /** Stands in the root before the files, and after those that are wanted first. */
  readonly landmark?: string;
  /** Changes the entries of the table. */
  readonly edit?: (entries: TocItem[]) => void;
}

export type TocItem = Record<string, unknown>;

/** A layer that is compressed already. */
export interface StoredLayer {
  readonly stored: Uint8Array;
  /** What it expands to. */
  readonly tar: Uint8Array;
  readonly mediaType: string;
  readonly annotations: Readonly<Record<string, string>>;
}

const CLOSING = 1024;
const TYPES: Readonly<Record<TarType, string>> = {
  file: "reg",
  dir: "dir",
  hardlink: "hardlink",
  symlink: "symlink",
  char: "char",
  block: "block",
  fifo: "fifo",
};

export function sha256Of(bytes: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
}

/** As Go's JSON does: what is not UTF-8 is lost. */
function utf8(bytes: string): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}

function time({ mtime = 0, mtimeNs = 0 }: TarItem): string {
  const text = new Date(mtime * 1000)
    .toISOString()
    .replace(/^\+0*/, "")
    .replace(/\.000Z$/, "");
  return mtimeNs === 0 ? `${text}Z` : `${text}.${String(mtimeNs).padStart(9, "0")}Z`;
}

function entryOf(item: TarItem): TocItem {
  const xattrs = [...(item.xattrs ?? [])].map(([key, value]) => [
    utf8(key),
    Buffer.from(value).toString("base64"),
  ]);
  const entry: TocItem = {
    name: utf8(item.path),
    type: TYPES[item.type],
    mode: item.mode ?? 0o644,
    uid: item.uid,
    gid: item.gid,
    modtime: item.mtime === undefined && item.mtimeNs === undefined ? undefined : time(item),
  };
  if (item.target !== undefined) entry.linkName = utf8(item.target);
  if (item.type === "char" || item.type === "block")
    Object.assign(entry, { devMajor: item.major, devMinor: item.minor });
  if (xattrs.length > 0) entry.xattrs = Object.fromEntries(xattrs);
  return entry;
}

/** One compressed stream after the other. */
class Streams {
  readonly parts: Uint8Array[] = [];
  readonly #compress: (bytes: Uint8Array) => Uint8Array;
  #open: Uint8Array[] = [];
  /** Of the stream that is open. */
  offset = 0;
  size = 0;

  constructor(compress: (bytes: Uint8Array) => Uint8Array) {
    this.#compress = compress;
  }

  write(bytes: Uint8Array): void {
    if (bytes.byteLength === 0) return;
    this.#open.push(bytes);
    this.size += bytes.byteLength;
  }

  end(): void {
    if (this.size === 0) return;
    const stored = this.#compress(Buffer.concat(this.#open));
    this.parts.push(stored);
    this.offset += stored.byteLength;
    this.#open = [];
    this.size = 0;
  }
}

export function tocLayer(items: Iterable<TarItem>, options: TocOptions): StoredLayer {
  const { format, landmark = ".no.prefetch.landmark" } = options;
  const gzip = format === "estargz";
  const mark: TarItem = { path: landmark, type: "file", data: Uint8Array.of(0xf) };
  const all = landmark.startsWith(".no") && format !== "podman" ? [mark, ...items] : [...items];
  const streams = new Streams((bytes) => (gzip ? gzipSync(bytes) : zstdCompressSync(bytes)));
  const tar: Uint8Array[] = [];
  const entries: TocItem[] = [];
  for (const item of all) {
    const whole = tarOf([item]).subarray(0, -CLOSING);
    tar.push(whole);
    entries.push(...writeItem(item, whole, streams, options));
  }
  options.edit?.(entries);
  const json = Buffer.from(JSON.stringify({ version: 1, entries }));
  return gzip ? endEstargz(streams, tar, json) : endZstd(streams, tar, json, format);
}

function writeItem(item: TarItem, whole: Uint8Array, streams: Streams, options: TocOptions): TocItem[] {
  const { format, chunkSize = 4 << 20, minStream = 0 } = options;
  const { data = new Uint8Array() } = item;
  const padded = Math.ceil(data.byteLength / 512) * 512;
  const entry = entryOf(item);
  streams.write(whole.subarray(0, whole.byteLength - padded));
  if (item.type !== "file" || data.byteLength === 0) return [entry];
  const sizes =
    format === "podman" ? unevenSizes(data.byteLength, chunkSize) : evenSizes(data.byteLength, chunkSize);
  const found: TocItem[] = [];
  let at = 0;
  for (const [i, size] of sizes.entries()) {
    if (streams.size >= minStream) streams.end();
    const chunk = data.subarray(at, at + size);
    const last = i === sizes.length - 1;
    found.push({
      ...(i === 0
        ? { ...entry, size: data.byteLength, digest: sha256Of(data) }
        : { name: entry.name, type: "chunk" }),
      offset: streams.offset,
      ...(streams.size > 0 ? { innerOffset: streams.size } : {}),
      ...(at > 0 ? { chunkOffset: at } : {}),
      ...(format === "podman"
        ? sizes.length > 1
          ? { chunkSize: size }
          : {}
        : last
          ? {}
          : { chunkSize: size }),
      ...(format === "podman" && sizes.length === 1 ? {} : { chunkDigest: sha256Of(chunk) }),
    });
    streams.write(chunk);
    if (format === "podman") streams.end();
    at += size;
  }
  const [first] = found;
  if (format === "podman" && first !== undefined) first.endOffset = streams.offset;
  streams.write(whole.subarray(whole.byteLength - padded + data.byteLength));
  return found;
}

function evenSizes(size: number, chunkSize: number): number[] {
  return Array.from({ length: Math.ceil(size / chunkSize) }, (_, i) =>
    Math.min(chunkSize, size - i * chunkSize),
  );
}

/** Odd sizes that depend on nothing but the file's. */
function unevenSizes(size: number, chunkSize: number): number[] {
  const sizes: number[] = [];
  for (let left = size; left > 0; ) {
    const next = Math.min(
      left,
      Math.max(1, Math.floor(chunkSize / (1 + (sizes.length % 3))) - 17 * sizes.length),
    );
    sizes.push(next);
    left -= next;
  }
  return sizes;
}

function endEstargz(streams: Streams, tar: Uint8Array[], json: Uint8Array): StoredLayer {
  streams.end();
  const table = tarOf([{ path: "stargz.index.json", type: "file", data: json }]);
  const subfield = `${streams.offset.toString(16).padStart(16, "0")}STARGZ`;
  const footer = Buffer.concat([
    Buffer.from("1f8b08040000000000ff1a0053471600", "hex"),
    Buffer.from(subfield),
    Buffer.from("010000ffff0000000000000000", "hex"),
  ]);
  return {
    stored: Buffer.concat([...streams.parts, gzipSync(table), footer]),
    tar: Buffer.concat([...tar, table]),
    mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
    annotations: { "containerd.io/snapshot/stargz/toc.digest": sha256Of(json) },
  };
}

function endZstd(streams: Streams, tar: Uint8Array[], json: Uint8Array, format: TocFormat): StoredLayer {
  const closing = new Uint8Array(CLOSING);
  streams.write(closing);
  streams.end();
  const table = zstdCompressSync(json);
  const offset = streams.offset + 8;
  const podman = format === "podman";
  const footer = Buffer.alloc(podman ? 64 : 40);
  for (const [i, value] of [offset, table.byteLength, json.byteLength, 1].entries())
    footer.writeBigUInt64LE(BigInt(value), 8 * i);
  footer.write(podman ? "GNUlInUx" : "GnUlInUx", footer.byteLength - 8, "latin1");
  const name = podman ? "io.github.containers.zstd-chunked" : "io.containers.zstd-chunked";
  return {
    stored: Buffer.concat([...streams.parts, skippable(table), skippable(footer)]),
    tar: Buffer.concat([...tar, closing]),
    mediaType: "application/vnd.oci.image.layer.v1.tar+zstd",
    annotations: {
      [`${name}.manifest-checksum`]: sha256Of(table),
      [`${name}.manifest-position`]: `${offset}:${table.byteLength}:${json.byteLength}:1`,
      ...(podman ? {} : { "containerd.io/snapshot/stargz/toc.digest": sha256Of(json) }),
    },
  };
}

function skippable(bytes: Uint8Array): Uint8Array {
  const header = Buffer.from("502a4d1800000000", "hex");
  header.writeUInt32LE(bytes.byteLength, 4);
  return Buffer.concat([header, bytes]);
}
