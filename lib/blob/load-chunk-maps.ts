/**
 * The chunk maps of an image whatever kind its blobs are of. Most follow from the bootstrap alone; where chunks lie in
 * larger stored units, places come from the blobs' own compression information.
 *
 * @module
 */
import { sameBytes } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import type { Fetcher } from "../content/content.ts";
import { DirectoryFirst } from "../content/directory-first.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { dataSize, UNIT_FEATURES } from "../rafs/blob-table-reader.ts";
import type { Bootstrap } from "../rafs/bootstrap.ts";
import { type ChunkMap, chunkDigest, isVerified, NO_UNIT, type StoredUnits } from "../rafs/chunk-map.ts";
import { type BlobChunks, readChunks } from "../rafs/chunk-maps.ts";
import { chunkChecksums, hasExternalBlobs, isExternal } from "../rafs/external.ts";
import type { RafsImage } from "../rafs/image.ts";
import { readIndexedChunks, withIndexed } from "../rafs/indexed-chunks.ts";
import { chunkMaps as chunkMapsV5 } from "../rafs/v5/chunk-maps.ts";
import { type ChunkInfoV2, INFO_FLAGS } from "./chunk-info-v2.ts";
import type { ChunkInfos } from "./chunk-infos.ts";
import { descriptionDigest } from "./pieces-unit.ts";
import { type ChunkInfoSource, readChunkInfos } from "./read-chunk-infos.ts";
import { type TarParts, tarMaps } from "./tar-map.ts";
import { packedDirectory } from "./tar-scan.ts";
import { digestChunks } from "./untabled-chunks.ts";

export interface ChunkMapOptions {
  /** Of images that lie in plain tars: what their maps are to list. Default: chunks. */
  readonly tarParts?: TarParts;
  /** When it is known that every chunk of a file is in the chunk table: else all files are looked at. */
  readonly chunkTableComplete?: boolean;
}

/**
 * The chunks that the image uses of each blob, in the order of `blobs`.
 *
 * @throws corrupt, unsupported, and what fetching throws
 */
export async function loadChunkMaps(
  image: RafsImage,
  source: ChunkInfoSource,
  { tarParts = "chunks", chunkTableComplete = false }: ChunkMapOptions = {},
): Promise<ChunkMap[]> {
  if (image.version === 5) return chunkMapsV5(image);
  if (image.superblock.tarfs) return await tarMaps(image, source, tarParts);
  const chunks = readChunks(image);
  const indexed = chunkTableComplete ? undefined : readIndexedChunks(image, chunks);
  return await Promise.all(
    chunks.map(async (found, i) => {
      const blob = image.blobs[i];
      if (blob !== undefined && isExternal(blob)) return await externalMap(image, i, found, source);
      const more = indexed?.of(i) ?? [];
      if (blob === undefined || (more.length === 0 && (blob.features & UNIT_FEATURES) === 0))
        return found.map;
      const all = withIndexed(found, more, blob);
      const map = withPlaces(all, blob, await readChunkInfos(blob, source));
      const positions = more.map(({ block }) => all.positions.get(block) ?? 0);
      if (positions.length > 0) await digestChunks(map, positions, source);
      return map;
    }),
  );
}

/** What vouches for such chunks is found out when the blob is read, once. */
async function externalMap(
  image: Bootstrap,
  blob: number,
  found: BlobChunks,
  source: ChunkInfoSource,
): Promise<ChunkMap> {
  const { map } = found;
  const all = Array.from({ length: map.count }, (_, i) => i);
  await digestChunks(map, all, source, { checksums: chunkChecksums(image, blob, found) });
  return map;
}

/**
 * Where the chunks of such maps are read from, which `source` gave the blobs for.
 *
 * @param keep as for `loadChunkMaps`
 */
export function withPackedLayers(image: RafsImage, keep: string, source: Fetcher): Fetcher {
  return isOverTars(image) ? new DirectoryFirst(packedDirectory(keep), source) : source;
}

/** Whether chunks of an image's tree have digests. */
export function hasDigests(image: RafsImage): boolean {
  return !isOverTars(image) && !hasExternalBlobs(image);
}

/** Whether an image's files lie in tars, which may be there compressed. */
export function isOverTars(image: RafsImage): boolean {
  return image.version === 6 && image.superblock.tarfs;
}

/** @throws corrupt when bootstrap and blob tell different stories */
function withPlaces({ map, ordinals }: BlobChunks, blob: BlobInfo, infos: ChunkInfos): ChunkMap {
  const { count } = map;
  const units: StoredUnits = {
    units: infos.units,
    unitOf: new Uint32Array(count).fill(NO_UNIT),
    offsetIn: new Uint32Array(count),
  };
  const stored = dataSize(blob);
  for (let i = 0; i < count; i++) {
    const ordinal = ordinals[i] ?? 0;
    const bad = (state: string): Error =>
      corrupt(`Cannot use the compression information of blob "${blob.id}": chunk ${ordinal} ${state}`);
    if (ordinal >= infos.count) throw bad("is not in it");
    const info = infos.at(ordinal);
    if (
      info.uncompressedOffset !== map.uncompressedOffset[i] ||
      info.uncompressedSize !== map.uncompressedLength[i]
    )
      throw bad("is another one in the bootstrap");
    const place = placeOf(info, infos.units, bad);
    if (place.description !== undefined && !sameBytes(place.description, chunkDigest(map, i)))
      throw bad("is made of other pieces than the bootstrap says");
    if (place.size === 0 || place.offset + place.size > stored) throw bad("lies past the end of the blob");
    map.compressedOffset[i] = place.offset;
    map.compressedLength[i] = place.size;
    map.compressed[i] = info.flags & INFO_FLAGS.compressed;
    units.unitOf[i] = place.unit;
    units.offsetIn[i] = info.unitOffset;
  }
  return { ...map, units };
}

interface Place {
  readonly offset: number;
  readonly size: number;
  readonly unit: number;
  /** Of chunks that are put together of pieces: what their digest must be. */
  readonly description?: Uint8Array;
}

/** Where the bytes are that a chunk comes out of. */
function placeOf(info: ChunkInfoV2, units: StoredUnits["units"], bad: (state: string) => Error): Place {
  const { flags, unit: index, unitOffset, uncompressedSize, compressedOffset, compressedSize } = info;
  if ((flags & (INFO_FLAGS.batch | INFO_FLAGS.zran)) === 0) {
    if ((flags & (INFO_FLAGS.compressed | INFO_FLAGS.encrypted)) === 0 && compressedSize !== uncompressedSize)
      throw bad(`has ${compressedSize} stored bytes for ${uncompressedSize}`);
    return { offset: compressedOffset, size: compressedSize, unit: NO_UNIT };
  }
  const unit = units[index];
  if (unit === undefined || (unit.kind === "window") !== ((flags & INFO_FLAGS.zran) !== 0))
    throw bad(`lies in unit ${index}, which there is not`);
  if (unitOffset + uncompressedSize > unit.size) throw bad(`lies past the end of unit ${index}`);
  const offset = unit.kind === "window" ? unit.inOffset : compressedOffset;
  const place = { offset, size: unit.storedSize, unit: index };
  if (unit.kind !== "pieces" || !isVerified(unit)) return place;
  const chunk = { storedOffset: offset, unitOffset, size: uncompressedSize };
  return { ...place, description: descriptionDigest(unit, chunk) };
}
