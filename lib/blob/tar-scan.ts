/**
 * Reads a tarfs blob once, whole, against its digest: a plain tar, or the layer that it came compressed in. Its parts
 * are hashed as they pass, and where they can be read from later is noted: in a plain tar in place, in a gzip layer
 * through windows. What cannot be entered in the middle (zstd) is packed into a file, part by part.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { compressChunkInPool } from "../base/compression.ts";
import { Digester, digestFromHex, sha256 } from "../base/digest.ts";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import { decompressed, type LayerKind, sniffed, type WholeLayer } from "../content/decompress.ts";
import { writeFileAtomically } from "../content/files.ts";
import { IndexedGunzip } from "../content/indexed-gunzip.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { GzipWindow } from "../rafs/chunk-map.ts";
import { type LayerPart, placeInWindows } from "./gzip-windows.ts";
import type { ChunkInfoSource } from "./read-chunk-infos.ts";
import { MAX_UNIT } from "./stored-unit.ts";

export const DIGEST_SIZE = 32;

/** What one pass over a tarfs blob tells. */
export interface ScannedTar {
  /** Bytes that parts are read from: of the tar, of the gzip layer, or of the packed file. */
  readonly storedSize: number;
  /** SHA-256 of each part. */
  readonly digests: Uint8Array;
  /** Of a gzip layer. */
  readonly windows?: readonly GzipWindow[];
  /** Of a packed layer: the stored bytes of each part. */
  readonly packed?: Uint32Array;
}

/** Where the packed form of layers lies that cannot be entered in the middle, each named by its blob's id. */
export function packedDirectory(keep: string): string {
  return join(keep, "packed");
}

/**
 * @param parts in order; they do not overlap, and lie in the tar
 * @throws corrupt when the blob is not what its name says, and what fetching throws
 */
export async function scanTar(
  blob: BlobInfo,
  parts: readonly LayerPart[],
  source: ChunkInfoSource,
): Promise<ScannedTar> {
  try {
    return await new Scan(blob, parts, source).run();
  } catch (error) {
    throw toNydusError(error, `read tar "${blob.id}"`);
  }
}

/** A blob from its first byte on; whoever does not read it to its end ends it. */
interface OpenedBlob {
  readonly kind: LayerKind;
  readonly whole: WholeLayer;
  /** Of all that is read of the blob. */
  readonly digester: Digester;
}

class Scan {
  readonly #blob: BlobInfo;
  readonly #parts: readonly LayerPart[];
  readonly #source: ChunkInfoSource;
  readonly #what: string;

  constructor(blob: BlobInfo, parts: readonly LayerPart[], source: ChunkInfoSource) {
    this.#blob = blob;
    this.#parts = parts;
    this.#source = source;
    this.#what = `tar "${blob.id}"`;
  }

  async run(): Promise<ScannedTar> {
    const opened = await this.#open();
    if (opened.kind === "tar") return await this.#hash(opened);
    if (opened.kind === "gzip") return (await this.#index(opened)) ?? (await this.#pack(await this.#open()));
    return await this.#pack(opened);
  }

  async #hash({ whole, digester }: OpenedBlob): Promise<ScannedTar> {
    const hasher = new PartHasher(this.#parts);
    await this.#read(whole, (bytes) => hasher.update(bytes));
    this.#checkDigest(digester);
    return { storedSize: this.#blob.compressedSize, digests: hasher.digests };
  }

  /** @returns undefined for a layer that must be packed */
  async #index({ whole, digester }: OpenedBlob): Promise<ScannedTar | undefined> {
    const gunzip = new IndexedGunzip(whole, this.#what);
    const hasher = new PartHasher(this.#parts);
    await this.#read(gunzip.pieces(), (bytes) => hasher.update(bytes));
    this.#checkDigest(digester);
    const windows = placeInWindows(this.#parts, gunzip).map(({ window }) => window);
    // Nobody writes such a layer but to be awkward: each of its reads would cost too much memory.
    if (windows.some(({ size, storedSize }) => Math.max(size, storedSize) > MAX_UNIT)) return undefined;
    return { storedSize: digester.size, digests: hasher.digests, windows };
  }

  /** The packed file gets its name when the layer has shown to be the right one. */
  async #pack({ whole, digester }: OpenedBlob): Promise<ScannedTar> {
    const { keep } = this.#source;
    if (keep === undefined) {
      await whole.return();
      throw new NydusError(
        "internal",
        `Cannot use ${this.#what}: there is no place to unpack its layer into`,
      );
    }
    const digests = new Uint8Array(this.#parts.length * DIGEST_SIZE);
    const packed = new Uint32Array(this.#parts.length);
    const body = this.#packed(decompressed(whole, this.#what), digester, { digests, packed });
    const directory = packedDirectory(keep);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    await writeFileAtomically(join(directory, this.#blob.id), body, { mode: 0o600 });
    return { storedSize: packed.reduce((sum, size) => sum + size, 0), digests, packed };
  }

  async *#packed(
    tar: AsyncIterable<Uint8Array>,
    digester: Digester,
    { digests, packed }: { readonly digests: Uint8Array; readonly packed: Uint32Array },
  ): AsyncGenerator<Uint8Array> {
    for await (const { part, bytes } of wholeParts(this.#bounded(tar), this.#parts)) {
      const stored = (await compressChunkInPool("zstd", bytes)) ?? bytes;
      digests.set(sha256(bytes), part * DIGEST_SIZE);
      packed[part] = stored.byteLength;
      yield stored;
    }
    this.#checkDigest(digester);
  }

  async #open(): Promise<OpenedBlob> {
    const { fetcher, signal } = this.#source;
    const options = signal === undefined ? {} : { signal };
    const { id, compressedSize } = this.#blob;
    const digest = digestFromHex(id);
    // The bootstrap tells the size of the tar, not of a layer that it is compressed in.
    const size = (await fetcher.sizeOf?.(digest, options)) ?? compressedSize;
    const body = await fetcher.fetch({ mediaType: MEDIA.ociLayer, digest, size }, options);
    const digester = new Digester();
    return { ...(await sniffed(digested(body, digester))), digester };
  }

  /** Each piece goes to `use`; between them, others get their turn. */
  async #read(tar: AsyncIterable<Uint8Array>, use: (bytes: Uint8Array) => void): Promise<void> {
    for await (const bytes of this.#bounded(tar)) {
      use(bytes);
      await setImmediate();
    }
  }

  /** @throws corrupt unless the tar has the size that the bootstrap says */
  async *#bounded(tar: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const { uncompressedSize: size } = this.#blob;
    let at = 0;
    for await (const bytes of tar) {
      at += bytes.byteLength;
      if (at > size)
        throw corrupt(`Cannot use ${this.#what}: it has more than the ${size} bytes that the image says`);
      yield bytes;
    }
    if (at !== size)
      throw corrupt(`Cannot use ${this.#what}: it has ${at} bytes, and the image says ${size}`);
  }

  #checkDigest(digester: Digester): void {
    const found = digester.finish();
    if (found === digestFromHex(this.#blob.id)) return;
    throw corrupt(`Cannot use ${this.#what}: its content has digest ${found.replace(/^sha256:/, "")}`);
  }
}

async function* digested(
  source: AsyncIterable<Uint8Array>,
  digester: Digester,
): AsyncGenerator<Uint8Array, undefined> {
  for await (const bytes of source) {
    digester.update(bytes);
    yield bytes;
  }
}

/** What a piece of the stream has of one part. */
interface Slice {
  readonly part: number;
  readonly bytes: Uint8Array;
  /** The part ends with it. */
  readonly last: boolean;
}

/** Cuts parts out of a stream. */
class PartCutter {
  readonly #parts: readonly LayerPart[];
  #next = 0;
  #at = 0;

  constructor(parts: readonly LayerPart[]) {
    this.#parts = parts;
  }

  *cut(bytes: Uint8Array): Generator<Slice, undefined> {
    const at = this.#at;
    const end = at + bytes.byteLength;
    this.#at = end;
    for (let part = this.#parts[this.#next]; part !== undefined; part = this.#parts[this.#next]) {
      if (part.start >= end) return;
      const stop = part.start + part.length;
      const last = stop <= end;
      const slice = bytes.subarray(Math.max(0, part.start - at), Math.min(stop, end) - at);
      yield { part: this.#next, bytes: slice, last };
      if (!last) return;
      this.#next++;
    }
  }
}

class PartHasher {
  readonly digests: Uint8Array;
  readonly #cutter: PartCutter;
  #hash = new Bun.CryptoHasher("sha256");

  constructor(parts: readonly LayerPart[]) {
    this.#cutter = new PartCutter(parts);
    this.digests = new Uint8Array(parts.length * DIGEST_SIZE);
  }

  update(piece: Uint8Array): void {
    for (const { part, bytes, last } of this.#cutter.cut(piece)) {
      this.#hash.update(bytes);
      if (!last) continue;
      this.digests.set(this.#hash.digest(), part * DIGEST_SIZE);
      this.#hash = new Bun.CryptoHasher("sha256");
    }
  }
}

/** Each part in one piece. */
async function* wholeParts(
  tar: AsyncIterable<Uint8Array>,
  parts: readonly LayerPart[],
): AsyncGenerator<{ readonly part: number; readonly bytes: Uint8Array }> {
  const cutter = new PartCutter(parts);
  let slices: Uint8Array[] = [];
  for await (const piece of tar) {
    for (const { part, bytes, last } of cutter.cut(piece)) {
      slices.push(bytes);
      if (!last) continue;
      yield { part, bytes: slices.length === 1 ? bytes : Buffer.concat(slices) };
      slices = [];
    }
  }
}
