/**
 * Chunk maps of plain tars (tarfs). A bootstrap of that kind has no digests but the tar's own, so the whole tar is read
 * once and verified, and its parts are hashed as they pass: from then on each is verified by itself, as everywhere.
 *
 * @module
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { digestFromHex } from "../base/digest.ts";
import { corrupt, toNydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { writeFileAtomically } from "../content/files.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { Bootstrap } from "../rafs/bootstrap.ts";
import { type ChunkMap, emptyChunkMap } from "../rafs/chunk-map.ts";
import { readIndexedChunks } from "../rafs/indexed-chunks.ts";
import { BLOCK_SIZE } from "../rafs/superblock.ts";
import type { ChunkInfoSource } from "./read-chunk-infos.ts";

const DIGEST_SIZE = 32;

/** Bytes that are fetched and verified together where no file is in sight. */
const PIECE = 2 ** 18;

/** A part of the tar. */
interface Part {
  readonly start: number;
  readonly length: number;
}

/**
 * - "chunks": the files' own chunks, which start anywhere in the tar
 * - "pieces": all of the tar cut evenly, for a cache and a kernel that count in pages
 */
export type TarParts = "chunks" | "pieces";

/** One map a tar, in the order of `blobs`. @throws corrupt when a tar is not what its name says, and what fetching throws */
export async function tarMaps(
  image: Bootstrap,
  source: ChunkInfoSource,
  kind: TarParts,
): Promise<ChunkMap[]> {
  const chunks = kind === "chunks" ? readIndexedChunks(image) : undefined;
  return await Promise.all(
    image.blobs.map((blob, i) => {
      const named = chunks
        ?.of(i)
        .map(({ block, length }) => ({ start: block * image.superblock.blockSize, length }));
      return tarMap(blob, named ?? [...pieces(blob.compressedSize)], source, kind);
    }),
  );
}

function* pieces(size: number): Generator<Part> {
  for (let start = 0; start < size; start += PIECE) yield { start, length: Math.min(PIECE, size - start) };
}

async function tarMap(
  blob: BlobInfo,
  parts: readonly Part[],
  source: ChunkInfoSource,
  kind: TarParts,
): Promise<ChunkMap> {
  const { id, compressedSize, uncompressedSize } = blob;
  const map = emptyChunkMap(
    {
      blobId: id,
      compressor: "none",
      digester: "sha256",
      compressedSize,
      uncompressedSize: alignUp(uncompressedSize, BLOCK_SIZE),
    },
    parts.length,
  );
  parts.forEach(({ start, length }, i) => {
    map.uncompressedOffset[i] = start;
    map.compressedOffset[i] = start;
    map.uncompressedLength[i] = length;
    map.compressedLength[i] = length;
  });
  map.digests.set(await digestsOf(blob, parts, source, kind));
  return map;
}

async function digestsOf(
  blob: BlobInfo,
  parts: readonly Part[],
  source: ChunkInfoSource,
  kind: TarParts,
): Promise<Uint8Array> {
  const { keep } = source;
  const path = keep && join(keep, `${blob.id}.tar-${kind}`);
  const size = parts.length * DIGEST_SIZE;
  if (path !== undefined && statSync(path, { throwIfNoEntry: false })?.size === size)
    return readFileSync(path);
  const digests = await hashParts(blob, parts, source);
  if (keep !== undefined && path !== undefined) {
    mkdirSync(keep, { recursive: true, mode: 0o700 });
    await writeFileAtomically(path, digests, { mode: 0o600 });
  }
  return digests;
}

async function hashParts(
  blob: BlobInfo,
  parts: readonly Part[],
  source: ChunkInfoSource,
): Promise<Uint8Array> {
  const { id, compressedSize: size } = blob;
  const { fetcher, signal } = source;
  const descriptor = { mediaType: MEDIA.ociLayer, digest: digestFromHex(id), size };
  const whole = new Bun.CryptoHasher("sha256");
  const hasher = new PartHasher(parts);
  let at = 0;
  try {
    const body = await fetcher.fetch(descriptor, signal === undefined ? {} : { signal });
    for await (const bytes of body) {
      whole.update(bytes);
      at += bytes.byteLength;
      if (at > size)
        throw corrupt(`Cannot use tar "${id}": it has more than the ${size} bytes that the image says`);
      hasher.update(bytes);
    }
  } catch (error) {
    throw toNydusError(error, `read tar "${id}"`);
  }
  if (at !== size) throw corrupt(`Cannot use tar "${id}": it has ${at} bytes, and the image says ${size}`);
  const found = whole.digest("hex");
  if (found !== id) throw corrupt(`Cannot use tar "${id}": its content has digest ${found}`);
  return hasher.digests;
}

/** Hashes parts of a stream. They are in order, do not overlap and lie inside it. */
class PartHasher {
  readonly digests: Uint8Array;
  readonly #parts: readonly Part[];
  #next = 0;
  #at = 0;
  #hash = new Bun.CryptoHasher("sha256");

  constructor(parts: readonly Part[]) {
    this.#parts = parts;
    this.digests = new Uint8Array(parts.length * DIGEST_SIZE);
  }

  update(bytes: Uint8Array): void {
    const end = this.#at + bytes.byteLength;
    for (let part = this.#parts[this.#next]; part !== undefined; part = this.#parts[this.#next]) {
      if (part.start >= end) break;
      const stop = part.start + part.length;
      this.#hash.update(bytes.subarray(Math.max(0, part.start - this.#at), Math.min(stop, end) - this.#at));
      if (stop > end) break;
      this.digests.set(this.#hash.digest(), this.#next * DIGEST_SIZE);
      this.#hash = new Bun.CryptoHasher("sha256");
      this.#next++;
    }
    this.#at = end;
  }
}
