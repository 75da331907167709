/**
 * Gets a blob's compression information: from a file beside the bootstrap, as bootstrap layers carry it, else from the
 * blob's own tail (or, of original layers, from the blob that holds their metadata).
 *
 * None of it is trusted: it only says where chunks are, and what is found there must have the chunk's digest.
 *
 * @module
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { decompressChunk } from "../base/compression.ts";
import { digestFromHex } from "../base/digest.ts";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { decryptXts } from "../base/xts.ts";
import type { Fetcher } from "../content/content.ts";
import { writeFileAtomically } from "../content/files.ts";
import { readAll } from "../content/verified.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { type ChunkInfos, decodeChunkInfos } from "./chunk-infos.ts";
import {
  type ChunkInfoHeader,
  chunkInfoFile,
  decodeChunkInfoHeader,
  HEADER_SIZE,
} from "./compression-info.ts";

export interface ChunkInfoSource {
  readonly fetcher: Fetcher;
  /** Where `<id>.blob.meta` files may lie: the bootstrap's directory. */
  readonly directory?: string;
  /** Where to keep what was fetched: for this bootstrap alone, for others may lie about the same blob. */
  readonly keep?: string;
  /** Of a bootstrap inside a blob: that blob's hex digest, which the bootstrap could not know. */
  readonly ownId?: string;
  /** Of external blobs that nothing vouches for: read them all the same. */
  readonly allowUnverified?: boolean;
  readonly signal?: AbortSignal;
}

/** It is held in memory whole. */
const MAX_SIZE = 2 ** 30;
const PAGE = 4096;

/** @throws corrupt, unsupported, and what fetching throws */
export async function readChunkInfos(blob: BlobInfo, source: ChunkInfoSource): Promise<ChunkInfos> {
  if (blob.ciUncompressedSize > MAX_SIZE)
    throw new NydusError(
      "unsupported",
      `Cannot use blob "${blob.id}": it has ${blob.ciUncompressedSize} bytes of compression information`,
    );
  return fromFile(blob, source.directory) ?? fromFile(blob, source.keep) ?? (await fromBlob(blob, source));
}

/** The blob that has the information, and its size; 0 = not known. */
function holder(blob: BlobInfo, ownId: string | undefined): { hex: string; size: number } {
  const separate = (blob.features & BLOB_FEATURES.separate) !== 0;
  if (ownId !== undefined && (blob.features & BLOB_FEATURES.inlinedBootstrap) !== 0)
    return { hex: ownId, size: separate ? blob.metaSize : blob.compressedSize };
  return separate
    ? { hex: Buffer.from(blob.metaDigest).toString("hex"), size: blob.metaSize }
    : { hex: blob.id, size: blob.compressedSize };
}

/** The array padded to a page, then the header. A file that is something else is passed over. */
function fromFile(blob: BlobInfo, directory: string | undefined): ChunkInfos | undefined {
  if (directory === undefined) return undefined;
  const start = alignUp(blob.ciUncompressedSize, PAGE);
  for (const name of [blob.id, holder(blob, undefined).hex]) {
    const path = join(directory, `${name}.blob.meta`);
    if (statSync(path, { throwIfNoEntry: false })?.size !== start + HEADER_SIZE) continue;
    try {
      const bytes = readFileSync(path);
      const header = matching(blob, bytes.subarray(start));
      return decodeChunkInfos(bytes.subarray(0, blob.ciUncompressedSize), blob, header);
    } catch (error) {
      const failure = toNydusError(error, `read "${path}"`);
      if (failure.code !== "corrupt") throw failure;
    }
  }
  return undefined;
}

async function fromBlob(blob: BlobInfo, source: ChunkInfoSource): Promise<ChunkInfos> {
  const { hex, size } = holder(blob, source.ownId);
  const { ciOffset: start, ciCompressedSize: stored, ciUncompressedSize, ciCompressor, cipher } = blob;
  const { fetcher, keep, signal } = source;
  const range = { start, end: start + stored + HEADER_SIZE };
  const descriptor = { mediaType: MEDIA.nydusBlob, digest: digestFromHex(hex), size };
  const what = `the compression information of blob "${hex}"`;
  const body = await fetcher.fetch(descriptor, { range, ...(signal === undefined ? {} : { signal }) });
  const bytes = await readAll(body, stored + HEADER_SIZE, what);
  if (bytes.byteLength !== stored + HEADER_SIZE)
    throw corrupt(`Cannot read ${what}: it has ${bytes.byteLength} bytes instead of ${stored + HEADER_SIZE}`);
  const plain = (part: Uint8Array): Uint8Array =>
    cipher === undefined ? part : decryptXts(cipher.key, cipher.iv, part);
  const page = plain(bytes.subarray(stored));
  const header = matching(blob, page);
  const data = decompressChunk(ciCompressor, plain(bytes.subarray(0, stored)), ciUncompressedSize);
  const infos = decodeChunkInfos(data, blob, header);
  if (keep !== undefined) {
    mkdirSync(keep, { recursive: true, mode: 0o700 });
    await writeFileAtomically(join(keep, `${blob.id}.blob.meta`), chunkInfoFile(data, page), { mode: 0o600 });
  }
  return infos;
}

/** Features may differ: old blobs have fewer there than in the bootstrap. */
function matching(blob: BlobInfo, bytes: Uint8Array): Required<ChunkInfoHeader> {
  const header = decodeChunkInfoHeader(bytes);
  const same =
    header.entries === blob.chunkCount &&
    header.compressor === blob.ciCompressor &&
    header.offset === blob.ciOffset &&
    header.compressedSize === blob.ciCompressedSize &&
    header.uncompressedSize === blob.ciUncompressedSize;
  if (same) return header;
  throw corrupt(
    `Cannot use the compression information of blob "${blob.id}": it is not what the bootstrap says`,
  );
}
