/**
 * Records of the stored units that several chunks share, behind the entries of the compression information: batches
 * (chunks compressed together), and windows into an original gzip layer, each with the bytes before it that are copied
 * from ("dictionary").
 *
 * @module
 */
import { corrupt } from "../base/error.ts";
import { WINDOW_SIZE } from "../base/inflate.ts";
import { struct, u8, u32, u64, viewOf } from "../base/struct.ts";
import type { BatchUnit, GzipWindow } from "../rafs/chunk-map.ts";

/** `BatchInflateContext` of the reference. Where a batch starts is in the entries of its chunks. */
const batchRecord = struct(40, { storedSize: u32(0), size: u32(4) });

/** `ZranInflateContext` of the reference. */
const windowRecord = struct(40, {
  inOffset: u64(0),
  outOffset: u64(8),
  dictionaryOffset: u64(16),
  inSize: u32(24),
  outSize: u32(28),
  dictionarySize: u32(32),
  previousByte: u8(36),
  bits: u8(37),
});

const UNIT_RECORD_SIZE = 40;

/** What a unit may expand to: it is held in memory. A window reaches to the end of its last chunk. */
export const MAX_UNIT = 32 * 2 ** 20;
const MAX_BATCH = 2 ** 24;

export function encodeBatches(units: readonly BatchUnit[]): Uint8Array {
  return Buffer.concat(units.map(({ storedSize, size }) => batchRecord.encode({ storedSize, size })));
}

/** @param area the records and nothing else. @throws corrupt */
export function decodeBatches(area: Uint8Array, count: number): BatchUnit[] {
  assertRoom(area, count);
  const view = viewOf(area);
  return Array.from({ length: count }, (_, i) => {
    const { storedSize, size } = batchRecord.read(view, i * UNIT_RECORD_SIZE);
    if (size === 0 || size > MAX_BATCH || storedSize === 0 || storedSize > MAX_BATCH)
      throw corrupt(`Cannot use batch ${i}: it has ${size} bytes, ${storedSize} stored`);
    return { kind: "batch", storedSize, size };
  });
}

/** The records, then all dictionaries. */
export function encodeWindows(windows: readonly GzipWindow[]): Uint8Array {
  let dictionaryOffset = 0;
  const records = windows.map((window) => {
    const { dictionary, storedSize, size, ...rest } = window;
    const sizes = { inSize: storedSize, outSize: size, dictionarySize: dictionary.byteLength };
    const record = windowRecord.encode({ ...rest, ...sizes, dictionaryOffset });
    dictionaryOffset += dictionary.byteLength;
    return record;
  });
  return Buffer.concat([...records, ...windows.map(({ dictionary }) => dictionary)]);
}

/**
 * Dictionaries are views of `area`.
 *
 * @param stored bytes of the layer. @throws corrupt
 */
export function decodeWindows(area: Uint8Array, count: number, stored: number): GzipWindow[] {
  assertRoom(area, count);
  const view = viewOf(area);
  const dictionaries = area.subarray(count * UNIT_RECORD_SIZE);
  return Array.from({ length: count }, (_, i) => {
    const record = windowRecord.read(view, i * UNIT_RECORD_SIZE);
    const { inOffset, outOffset, dictionaryOffset, inSize, outSize, dictionarySize, previousByte, bits } =
      record;
    const bad = (state: string): Error => corrupt(`Cannot use window ${i} of a gzip layer: ${state}`);
    if (inSize === 0 || inSize > MAX_UNIT || outSize === 0 || outSize > MAX_UNIT)
      throw bad(`it has ${outSize} bytes, ${inSize} stored`);
    if (inOffset + inSize > stored) throw bad("it lies past the end of the layer");
    if (bits > 7) throw bad(`it starts with ${bits} bits`);
    if (dictionarySize > WINDOW_SIZE || dictionaryOffset + dictionarySize > dictionaries.byteLength)
      throw bad(`its dictionary has ${dictionarySize} bytes at ${dictionaryOffset}`);
    const dictionary = dictionaries.subarray(dictionaryOffset, dictionaryOffset + dictionarySize);
    return {
      kind: "window",
      inOffset,
      outOffset,
      storedSize: inSize,
      size: outSize,
      bits,
      previousByte,
      dictionary,
    };
  });
}

function assertRoom(area: Uint8Array, count: number): void {
  if (count * UNIT_RECORD_SIZE > area.byteLength)
    throw corrupt(`Cannot use compression information: ${count} units do not fit ${area.byteLength} bytes`);
}
