/**
 * Chunks that the bootstrap's chunk table does not have. Files say where they are in the uncompressed blob and how long
 * they are, and the blob's compression information where they are stored; but nothing says what their digests are. So
 * the blob is read once, whole, against its own digest, and they are hashed as they pass.
 *
 * @module
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { chunkHasher, digestFromHex } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { writeFileAtomically } from "../content/files.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { BlobStream } from "./blob-stream.ts";
import { ChunkDecoder } from "./chunk-decoder.ts";
import type { ChunkInfoSource } from "./read-chunk-infos.ts";

/**
 * Fills in their digests.
 *
 * @param map complete but for these
 * @param positions in the map
 * @throws corrupt when the blob is not what its name says, and what fetching throws
 */
export async function digestChunks(
  map: ChunkMap,
  positions: readonly number[],
  source: ChunkInfoSource,
): Promise<void> {
  const { keep } = source;
  const path = keep && join(keep, `${map.blobId}.chunk-digests`);
  const size = map.digests.byteLength;
  if (path !== undefined && statSync(path, { throwIfNoEntry: false })?.size === size) {
    const kept = readFileSync(path);
    for (const i of positions) map.digests.set(kept.subarray(32 * i, 32 * i + 32), 32 * i);
    return;
  }
  await hashWholeBlob(map, positions, source);
  if (keep === undefined || path === undefined) return;
  mkdirSync(keep, { recursive: true, mode: 0o700 });
  await writeFileAtomically(path, map.digests, { mode: 0o600 });
}

async function hashWholeBlob(
  map: ChunkMap,
  positions: readonly number[],
  { fetcher, signal, ownId }: ChunkInfoSource,
): Promise<void> {
  const hex = /^x+$/.test(map.blobId) && ownId !== undefined ? ownId : map.blobId;
  const digest = digestFromHex(hex);
  const options = signal === undefined ? {} : { signal };
  // The bootstrap tells the size of a blob's data, not always of all of it.
  const size = (await fetcher.sizeOf?.(digest, options)) ?? map.compressedSize;
  const hasher = await chunkHasher(map.digester);
  const decoder = new ChunkDecoder(map);
  await using stream = new BlobStream(
    await fetcher.fetch({ mediaType: MEDIA.nydusBlob, digest, size }, options),
  );
  const { compressedOffset, compressedLength } = map;
  const inStoredOrder = positions.toSorted((a, b) => (compressedOffset[a] ?? 0) - (compressedOffset[b] ?? 0));
  for (const i of inStoredOrder) {
    const stored = await stream.take(compressedOffset[i] ?? 0, compressedLength[i] ?? 0);
    map.digests.set(hasher.digest(decoder.decode(i, stored)), 32 * i);
  }
  const whole = await stream.finish();
  if (whole.digest !== digest)
    throw corrupt(
      `Cannot use blob "${hex}": its chunk table is not complete, and its bytes have digest ${whole.digest}`,
    );
}
