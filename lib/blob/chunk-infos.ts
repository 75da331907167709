/**
 * The whole compression information of one blob, of any version: its entries, and the units that chunks may lie in.
 *
 * @module
 */
import { corrupt } from "../base/error.ts";
import { viewOf } from "../base/struct.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { dataSize, UNIT_FEATURES } from "../rafs/blob-table-reader.ts";
import type { StoredUnits } from "../rafs/chunk-map.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { type ChunkInfoV2, ENTRY_SIZE_V2, INFO_FLAGS, readChunkInfoV2 } from "./chunk-info-v2.ts";
import { type ChunkInfoHeader, ENTRY_SIZE, readChunkInfo } from "./compression-info.ts";
import { decodePiecesUnits } from "./pieces-unit.ts";
import { decodeBatches, decodeWindows } from "./stored-unit.ts";

export interface ChunkInfos {
  readonly count: number;
  /** @param ordinal below `count` */
  at(ordinal: number): ChunkInfoV2;
  readonly units: StoredUnits["units"];
}

/**
 * @param data uncompressed: entries, then records of units and their dictionaries; it must not change
 * @throws corrupt
 */
export function decodeChunkInfos(
  data: Uint8Array,
  blob: BlobInfo,
  header: Required<ChunkInfoHeader>,
): ChunkInfos {
  const count = header.entries;
  const version2 = (blob.features & BLOB_FEATURES.ciVersion2) !== 0;
  const size = count * (version2 ? ENTRY_SIZE_V2 : ENTRY_SIZE);
  if (size > data.byteLength)
    throw corrupt(
      `Cannot use the compression information of blob "${blob.id}": ${count} entries do not fit ${data.byteLength} bytes`,
    );
  const view = viewOf(data);
  return {
    count,
    at: (ordinal) =>
      version2 ? readChunkInfoV2(view, ordinal * ENTRY_SIZE_V2) : version1(view, ordinal * ENTRY_SIZE),
    units: decodeUnits(data, blob, header, size),
  };
}

function version1(view: DataView, at: number): ChunkInfoV2 {
  const info = readChunkInfo(view, at);
  const compressed = info.compressedSize !== info.uncompressedSize;
  return { ...info, flags: compressed ? INFO_FLAGS.compressed : 0, unit: 0, unitOffset: 0, crc: 0 };
}

function decodeUnits(
  data: Uint8Array,
  blob: BlobInfo,
  header: Required<ChunkInfoHeader>,
  entriesSize: number,
): StoredUnits["units"] {
  const { contexts, contextOffset, contextSize } = header;
  const zran = (blob.features & BLOB_FEATURES.zran) !== 0;
  if (contexts === 0 || (blob.features & UNIT_FEATURES) === 0) return [];
  if (
    contextOffset !== entriesSize ||
    contextOffset + contextSize > data.byteLength ||
    contexts > header.entries
  )
    throw corrupt(`Cannot use the compression information of blob "${blob.id}": its units are nowhere`);
  const area = data.subarray(contextOffset, contextOffset + contextSize);
  if ((blob.features & BLOB_FEATURES.pieces) !== 0) return decodePiecesUnits(area, contexts);
  return zran ? decodeWindows(area, contexts, dataSize(blob)) : decodeBatches(area, contexts);
}
