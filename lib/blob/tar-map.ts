/**
 * Chunk maps of tarfs images, whose files lie in plain tars, or in tars that are there compressed. A bootstrap of that
 * kind has no digests but the layer's own, so the whole layer is read once and verified, and its parts are hashed as they
 * pass (`tar-scan`): from then on each is verified by itself, as everywhere.
 *
 * @module
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Limiter } from "../base/limiter.ts";
import { alignUp } from "../base/math.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { Bootstrap } from "../rafs/bootstrap.ts";
import { type ChunkMap, emptyChunkMap, type GzipWindow } from "../rafs/chunk-map.ts";
import { readIndexedChunks } from "../rafs/indexed-chunks.ts";
import { BLOCK_SIZE } from "../rafs/superblock.ts";
import type { LayerPart } from "./gzip-windows.ts";
import type { ChunkInfoSource } from "./read-chunk-infos.ts";
import { readTarNotes, writeTarNotes } from "./tar-notes.ts";
import { packedDirectory, type ScannedTar, scanTar } from "./tar-scan.ts";

/** Bytes that are fetched and verified together where no file is in sight. */
const PIECE = 2 ** 18;
/** Layers of one image that are read at once. */
const LAYERS = 3;

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
  const limiter = new Limiter(LAYERS);
  return await Promise.all(
    image.blobs.map(async (blob, i) => {
      const named = chunks
        ?.of(i)
        .map(({ block, length }) => ({ start: block * image.superblock.blockSize, length }));
      const parts = named ?? [...pieces(blob.compressedSize)];
      const scanned = await limiter.run(() => scannedOnce(blob, parts, source, kind));
      return mapOf(blob, parts, scanned);
    }),
  );
}

function* pieces(size: number): Generator<LayerPart> {
  for (let start = 0; start < size; start += PIECE) yield { start, length: Math.min(PIECE, size - start) };
}

async function scannedOnce(
  blob: BlobInfo,
  parts: readonly LayerPart[],
  source: ChunkInfoSource,
  kind: TarParts,
): Promise<ScannedTar> {
  const { keep } = source;
  if (keep === undefined) return await scanTar(blob, parts, source);
  const path = join(keep, `${blob.id}.tar-${kind}.notes`);
  const noted = readTarNotes(path, parts.length);
  const whole = noted?.packed === undefined || existsSync(join(packedDirectory(keep), blob.id));
  if (noted !== undefined && whole) return noted;
  const scanned = await scanTar(blob, parts, source);
  mkdirSync(keep, { recursive: true, mode: 0o700 });
  await writeTarNotes(path, scanned);
  return scanned;
}

function mapOf(blob: BlobInfo, parts: readonly LayerPart[], scanned: ScannedTar): ChunkMap {
  const { storedSize, digests, windows, packed } = scanned;
  const compressor = windows !== undefined ? "gzip" : packed !== undefined ? "zstd" : "none";
  const map = emptyChunkMap(
    {
      blobId: blob.id,
      compressor,
      digester: "sha256",
      compressedSize: storedSize,
      uncompressedSize: alignUp(blob.uncompressedSize, BLOCK_SIZE),
    },
    parts.length,
  );
  let packedAt = 0;
  parts.forEach(({ start, length }, i) => {
    const stored = packed?.[i] ?? length;
    map.uncompressedOffset[i] = start;
    map.uncompressedLength[i] = length;
    map.compressedOffset[i] = packed === undefined ? start : packedAt;
    map.compressedLength[i] = stored;
    map.compressed[i] = stored < length ? 1 : 0;
    packedAt += stored;
  });
  map.digests.set(digests);
  return windows === undefined ? map : inWindows(map, windows);
}

/** Each part is in the last window that starts before it. */
function inWindows(map: ChunkMap, windows: readonly GzipWindow[]): ChunkMap {
  const unitOf = new Uint32Array(map.count);
  const offsetIn = new Uint32Array(map.count);
  let unit = 0;
  for (let i = 0; i < map.count; i++) {
    const start = map.uncompressedOffset[i] ?? 0;
    while ((windows[unit + 1]?.outOffset ?? Number.POSITIVE_INFINITY) <= start) unit++;
    const window = windows[unit];
    unitOf[i] = unit;
    offsetIn[i] = start - (window?.outOffset ?? 0);
    map.compressedOffset[i] = window?.inOffset ?? 0;
    map.compressedLength[i] = window?.storedSize ?? 0;
    map.compressed[i] = 1;
  }
  return { ...map, units: { units: windows, unitOf, offsetIn } };
}
