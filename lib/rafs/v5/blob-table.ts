/**
 * The two blob tables of v5: ids of any length one after the other, and facts of fixed size. Compressor, digester and
 * chunk size are the image's, not a blob's.
 *
 * @module
 */
import { byteString } from "../../base/byte-string.ts";
import type { Compressor } from "../../base/compression.ts";
import type { ChunkDigester } from "../../base/digest.ts";
import { struct, u32, u64 } from "../../base/struct.ts";
import {
  type BlobInfo,
  MAX_BLOBS,
  MAX_CHUNKS,
  MAX_COMPRESSED_SIZE,
  MAX_UNCOMPRESSED_SIZE,
} from "../blob-table.ts";
import { BrokenRule, type Complain, refuse } from "../broken-rule.ts";
import { BLOB_FEATURES } from "../flags.ts";
import type { Region } from "../superblock.ts";
import { unsupported } from "../superblock-reader.ts";
import { localSize } from "./local-space.ts";
import type { Superblock } from "./superblock.ts";

/** In front of each id: what nobody has used for years. The id ends at a NUL, or where the table ends. */
export const idHead = struct(8, { readaheadOffset: u32(0), readaheadSize: u32(4) });

/** `RafsV5ExtBlobEntry` of the reference. */
export const extendedEntry = struct(64, {
  chunkCount: u32(0),
  features: u32(4),
  uncompressedSize: u64(8),
  compressedSize: u64(16),
});

/** What a v5 bootstrap says about one data blob. */
export interface V5Blob {
  /** Hex digest of the stored blob; 64 times "x" in a bootstrap that is inlined in the blob itself. */
  readonly id: string;
  readonly chunkCount: number;
  readonly compressor: Compressor;
  readonly digester: ChunkDigester;
  /** `BLOB_FEATURES`. */
  readonly features: number;
  /** Bytes of the stored blob; of what precedes `image.boot` when the bootstrap is inlined. */
  readonly compressedSize: number;
  /** Bytes of the stored blob's address space, where chunks lie without gaps. */
  readonly packedSize: number;
  /** Bytes of the local address space (`local-space.ts`): a multiple of 4096. */
  readonly uncompressedSize: number;
}

/** Ids name files in the cache and the registry, so nothing but hex (or the placeholder) gets through. */
const BLOB_ID = /^(?:[0-9a-f]{64}|x{64})$/;

/** Each has its sentence; the reference writes none of them into v5. */
const UNSUPPORTED: readonly (readonly [bit: number, sentence: string])[] = [
  [BLOB_FEATURES.zran, "it is RAFS v5 with original gzip layers as blobs"],
  [BLOB_FEATURES.batch, "it is RAFS v5 with batches of chunks"],
  [BLOB_FEATURES.encrypted, "it is RAFS v5 with encrypted blobs"],
  [BLOB_FEATURES.tarfs, "it is RAFS v5 with plain tars as blobs"],
  [BLOB_FEATURES.external, "it is RAFS v5 with external files as blobs"],
];

/** @throws corrupt, unsupported: what `complain` makes of broken rules, and where ids and facts do not go together */
export function readBlobs(view: DataView, superblock: Superblock, complain: Complain = refuse): V5Blob[] {
  const { blobTable, extendedTable } = superblock;
  const ids = readIds(view, blobTable, complain);
  const count = extendedTable.size / extendedEntry.size;
  if (count === 0 && ids.length > 0)
    throw unsupported("it is of the first RAFS v5 builders, which did not number the chunks of a blob");
  if (count !== ids.length)
    throw new BrokenRule(blobTable.offset, `it has ${ids.length} blob ids but facts of ${count} blobs`);
  if (new Set(ids).size !== count) complain(new BrokenRule(blobTable.offset, "two blobs have the same id"));
  return ids.map((id, i) => readBlob(view, superblock, id, i, complain));
}

/** The padding of the table must not be taken for another entry. */
function readIds(view: DataView, { offset, size }: Region, complain: Complain): string[] {
  const ids: string[] = [];
  const end = offset + size;
  for (let at = offset; end - at > idHead.size; ) {
    if (ids.length === MAX_BLOBS) throw unsupported(`it has more than ${MAX_BLOBS} blobs`);
    const start = at + idHead.size;
    let stop = start;
    while (stop < end && view.getUint8(stop) !== 0) stop++;
    const id = byteString(new Uint8Array(view.buffer, view.byteOffset + start, stop - start));
    if (!BLOB_ID.test(id))
      complain(new BrokenRule(start, `blob ${ids.length} is not named by 64 hex digits`));
    ids.push(id);
    at = stop + 1;
  }
  return ids;
}

function readBlob(
  view: DataView,
  superblock: Superblock,
  id: string,
  index: number,
  complain: Complain,
): V5Blob {
  const at = superblock.extendedTable.offset + index * extendedEntry.size;
  const { compressor, digester } = superblock;
  const { chunkCount, features, uncompressedSize, compressedSize } = extendedEntry.read(view, at);
  const bad = (field: keyof typeof extendedEntry.fields, state: string): void =>
    complain(new BrokenRule(at + extendedEntry.fields[field].offset, `blob ${index} ${state}`));
  for (const [bit, sentence] of UNSUPPORTED) if ((features & bit) !== 0) complain(unsupported(sentence));
  if (chunkCount > MAX_CHUNKS) bad("chunkCount", `has ${chunkCount} chunks`);
  if (compressedSize > MAX_COMPRESSED_SIZE) bad("compressedSize", `has ${compressedSize} compressed bytes`);
  if (uncompressedSize > MAX_UNCOMPRESSED_SIZE)
    bad("uncompressedSize", `has ${uncompressedSize} uncompressed bytes`);
  const blob = {
    id,
    chunkCount,
    compressor,
    digester,
    features,
    compressedSize,
    packedSize: uncompressedSize,
  };
  if (dataSize(blob) < 0) bad("compressedSize", "has no room for its chunks");
  return { ...blob, uncompressedSize: localSize(uncompressedSize, chunkCount) };
}

/** Bytes of the stored blob that hold chunks: a tar header may follow them. */
export function dataSize({ features, compressedSize }: Pick<V5Blob, "features" | "compressedSize">): number {
  return compressedSize - ((features & BLOB_FEATURES.tarHeaders) !== 0 ? 512 : 0);
}

/** In the words of v6, without what v5 does not have. */
export function packedInfo({ packedSize, ...blob }: V5Blob): BlobInfo {
  return {
    ...blob,
    index: 0,
    uncompressedSize: packedSize,
    tocSize: 0,
    tocDigest: new Uint8Array(32),
    ciCompressor: "none",
    ciOffset: 0,
    ciCompressedSize: 0,
    ciUncompressedSize: 0,
    metaDigest: new Uint8Array(32),
    metaSize: 0,
  };
}
