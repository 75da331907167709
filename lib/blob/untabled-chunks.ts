/**
 * Chunks whose digests no bootstrap tells. Some are not in its chunk table: files say where they are in the uncompressed
 * blob and how long they are, and the blob's compression information where they are stored. Others are in external blobs.
 * The blob is read once, whole, against its own digest, and they are hashed as they pass.
 *
 * @module
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { createCRC32, type IHasher } from "hash-wasm";
import { chunkHasher, digestFromHex } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { writeFileAtomically } from "../content/files.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { BlobStream } from "./blob-stream.ts";
import { ChunkDecoder } from "./chunk-decoder.ts";
import type { ChunkInfoSource } from "./read-chunk-infos.ts";

export interface Vouching {
  /** CRC-32C of chunks, by position; they count where the blob's name is not its digest. */
  readonly checksums?: readonly (number | undefined)[];
}

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
  vouching: Vouching = {},
): Promise<void> {
  const { keep, allowUnverified = false } = source;
  // What was read unverified is no reason to believe it later.
  const name = allowUnverified ? "chunk-digests-unverified" : "chunk-digests";
  const path = keep && join(keep, `${map.blobId}.${name}`);
  const size = map.digests.byteLength;
  if (path !== undefined && statSync(path, { throwIfNoEntry: false })?.size === size) {
    const kept = readFileSync(path);
    for (const i of positions) map.digests.set(kept.subarray(32 * i, 32 * i + 32), 32 * i);
    return;
  }
  await hashWholeBlob(map, positions, source, vouching);
  if (keep === undefined || path === undefined) return;
  mkdirSync(keep, { recursive: true, mode: 0o700 });
  await writeFileAtomically(path, map.digests, { mode: 0o600 });
}

async function hashWholeBlob(
  map: ChunkMap,
  positions: readonly number[],
  { fetcher, signal, ownId, allowUnverified = false }: ChunkInfoSource,
  { checksums }: Vouching,
): Promise<void> {
  const hex = /^x+$/.test(map.blobId) && ownId !== undefined ? ownId : map.blobId;
  const digest = digestFromHex(hex);
  const options = signal === undefined ? {} : { signal };
  // The bootstrap tells the size of a blob's data, not always of all of it.
  const size = (await fetcher.sizeOf?.(digest, options)) ?? map.compressedSize;
  const hasher = await chunkHasher(map.digester);
  const decoder = new ChunkDecoder(map);
  const checker = checksums && (await ChecksumChecker.create(map.blobId, checksums));
  await using stream = new BlobStream(
    await fetcher.fetch({ mediaType: MEDIA.nydusBlob, digest, size }, options),
  );
  const { compressedOffset, compressedLength } = map;
  const inStoredOrder = positions.toSorted((a, b) => (compressedOffset[a] ?? 0) - (compressedOffset[b] ?? 0));
  for (const i of inStoredOrder) {
    const stored = await stream.take(compressedOffset[i] ?? 0, compressedLength[i] ?? 0);
    const data = decoder.decode(i, stored);
    checker?.check(i, data);
    map.digests.set(hasher.digest(data), 32 * i);
  }
  const whole = await stream.finish();
  if (whole.digest === digest || checker?.complete === true) return;
  if (checker === undefined)
    throw corrupt(
      `Cannot use blob "${hex}": its chunk table is not complete, and its bytes have digest ${whole.digest}`,
    );
  if (!allowUnverified)
    throw corrupt(
      `Cannot verify external blob "${hex}": its bytes have digest ${whole.digest}, and not all of its chunks have checksums; --allow-unverified reads it as it is`,
    );
}

const CRC32C = 0x82f6_3b78;

class ChecksumChecker {
  /** Whether each chunk of the blob has a checksum. */
  readonly complete: boolean;
  readonly #blobId: string;
  readonly #checksums: readonly (number | undefined)[];
  readonly #crc: IHasher;

  private constructor(blobId: string, checksums: readonly (number | undefined)[], crc: IHasher) {
    this.#blobId = blobId;
    this.#checksums = checksums;
    this.#crc = crc;
    this.complete = checksums.every((checksum) => checksum !== undefined);
  }

  static async create(blobId: string, checksums: readonly (number | undefined)[]): Promise<ChecksumChecker> {
    return new ChecksumChecker(blobId, checksums, await createCRC32(CRC32C));
  }

  /** @throws corrupt */
  check(chunk: number, data: Uint8Array): void {
    const wanted = this.#checksums[chunk];
    if (wanted === undefined) return;
    const found = Number.parseInt(this.#crc.init().update(data).digest("hex"), 16);
    if (found !== wanted)
      throw corrupt(
        `Cannot use chunk ${chunk} of external blob "${this.#blobId}": it does not match its checksum`,
      );
  }
}
