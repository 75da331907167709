/**
 * From the chunk records behind files to one `ChunkMap` a blob. v5 has no chunk table: each file has copies of the
 * records of its chunks, which must all tell the same story.
 *
 * For bootstraps that `checkV5` has passed: others give a `corrupt` error too, but a hostile one may take its time.
 *
 * @module
 */
import type { NydusError } from "../../base/error.ts";
import { MAX_CHUNKS } from "../blob-table.ts";
import { BrokenRule, type Complain, refuse } from "../broken-rule.ts";
import { type ChunkMap, emptyChunkMap } from "../chunk-map.ts";
import { chunkRecord } from "../chunk-record.ts";
import { CHUNK_FLAGS } from "../flags.ts";
import { dataSize, type V5Blob } from "./blob-table.ts";
import type { V5Bootstrap } from "./bootstrap.ts";
import { inodeCount } from "./inode-reader.ts";
import { localOffset } from "./local-space.ts";

const R = chunkRecord.fields;
const KNOWN_FLAGS = CHUNK_FLAGS.compressed | CHUNK_FLAGS.hasCrc;

/** The chunks that the image uses of each blob, in the order of the blob table. @throws corrupt */
export function chunkMaps(image: V5Bootstrap, complain: Complain = refuse): ChunkMap[] {
  const records = distinctRecords(image, complain);
  const byBlob: number[][] = image.blobs.map(() => []);
  for (const key of Float64Array.from(records.keys()).sort())
    byBlob[Math.floor(key / MAX_CHUNKS)]?.push(records.get(key) ?? 0);
  return image.blobs.map((blob, i) => chunkMap(image, blob, byBlob[i] ?? [], complain));
}

/** Byte offsets of records, one of each chunk that the image uses, in the order of its files. @throws corrupt */
export function chunkRecords(image: V5Bootstrap): number[] {
  return [...distinctRecords(image, refuse).values()];
}

/** Byte offset of one record of each chunk, by blob and index. */
function distinctRecords(image: V5Bootstrap, complain: Complain): Map<number, number> {
  const { view, blobs, superblock } = image;
  const records = new Map<number, number>();
  for (let number = 1; number <= inodeCount(superblock); number++) {
    const inode = image.raw(number);
    // The other names of a hard link have copies of the first one's records.
    if (inode.kind !== "file" || image.ino(inode) !== number) continue;
    const { offset, size } = inode.chunks;
    for (let at = offset; at < offset + size; at += chunkRecord.size) {
      const key = chunkKey(view, at, blobs, complain);
      const known = key === undefined ? undefined : records.get(key);
      if (key !== undefined && known === undefined) records.set(key, at);
      else if (known !== undefined && !sameChunk(image.bytes, known, at))
        complain(bad(at, "contradicts another record of its chunk"));
    }
  }
  return records;
}

/** @returns undefined for a record of no chunk */
function chunkKey(
  view: DataView,
  at: number,
  blobs: readonly V5Blob[],
  complain: Complain,
): number | undefined {
  const blob = R.blob.read(view, at);
  const index = R.index.read(view, at);
  const count = blobs[blob]?.chunkCount;
  if (count === undefined) return void complain(bad(at, "names no blob"));
  if (index >= count) return void complain(bad(at, `is number ${index} of ${count} in its blob`));
  return blob * MAX_CHUNKS + index;
}

/** All but the offset in the file. */
function sameChunk(bytes: Uint8Array, a: number, b: number): boolean {
  const same = (from: number, to: number): boolean =>
    Buffer.compare(bytes.subarray(a + from, a + to), bytes.subarray(b + from, b + to)) === 0;
  return same(0, R.fileOffset.offset) && same(R.index.offset, chunkRecord.size);
}

/** @param records ascending by index */
function chunkMap(
  { view, bytes, superblock }: V5Bootstrap,
  blob: V5Blob,
  records: number[],
  complain: Complain,
): ChunkMap {
  const { compressor, digester, chunkSize } = superblock;
  const map = emptyMap(blob, records.length, { compressor, digester });
  let end = 0;
  records.forEach((at, i) => {
    const start = R.uncompressedOffset.read(view, at);
    if (start < end) complain(bad(at, `overlaps the chunk before it in blob ${blob.id}`));
    checkRecord(view, at, blob, chunkSize, complain);
    end = start + R.uncompressedSize.read(view, at);
    map.uncompressedOffset[i] = localOffset(start, R.index.read(view, at));
    map.uncompressedLength[i] = R.uncompressedSize.read(view, at);
    map.compressedOffset[i] = R.compressedOffset.read(view, at);
    map.compressedLength[i] = R.compressedSize.read(view, at);
    map.compressed[i] = R.flags.read(view, at) & CHUNK_FLAGS.compressed;
    map.digests.set(bytes.subarray(at, at + 32), 32 * i);
  });
  return map;
}

function checkRecord(view: DataView, at: number, blob: V5Blob, chunkSize: number, complain: Complain): void {
  const flags = R.flags.read(view, at);
  const start = R.uncompressedOffset.read(view, at);
  const length = R.uncompressedSize.read(view, at);
  const from = R.compressedOffset.read(view, at);
  const stored = R.compressedSize.read(view, at);
  const rule = (holds: boolean, state: string): void => {
    if (!holds) complain(bad(at, state));
  };
  rule((flags & ~KNOWN_FLAGS) === 0, `has flags 0x${flags.toString(16)} that v5 does not have`);
  rule(length !== 0 && length <= chunkSize, `has ${length} bytes`);
  rule(start + length <= blob.packedSize, `lies past the end of blob ${blob.id}`);
  rule(stored !== 0 && from + stored <= dataSize(blob), `is stored past the end of blob ${blob.id}`);
  const fits = (flags & CHUNK_FLAGS.compressed) === 0 ? stored === length : stored <= length;
  rule(fits, `has ${stored} stored bytes for ${length}`);
}

function bad(at: number, state: string): NydusError {
  return new BrokenRule(at, `the chunk record at ${at} ${state}`);
}

function emptyMap(blob: V5Blob, count: number, format: Pick<ChunkMap, "compressor" | "digester">): ChunkMap {
  const { id, uncompressedSize } = blob;
  return emptyChunkMap({ blobId: id, ...format, uncompressedSize, compressedSize: dataSize(blob) }, count);
}
