import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { isCode } from "../base/error.ts";
import { viewOf } from "../base/struct.ts";
import type { GzipWindow } from "../rafs/chunk-map.ts";
import { expandWindow } from "./chunk-decoder.ts";
import { type ChunkInfoV2, ENTRY_SIZE_V2, readChunkInfoV2, writeChunkInfoV2 } from "./chunk-info-v2.ts";
import { decodeBatches, decodeWindows, encodeBatches, encodeWindows } from "./stored-unit.ts";

/** Undefined when the work ends in a `corrupt` error; any other error is the test's failure. */
function unlessCorrupt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (isCode(error, "corrupt")) return undefined;
    throw error;
  }
}

const text = Buffer.from("what is copied from, and what is not; ".repeat(300));
const file = gzipSync(text);
const whole: GzipWindow = {
  kind: "window",
  inOffset: 10,
  outOffset: 0,
  storedSize: file.length - 10,
  size: text.length,
  bits: 0,
  previousByte: 0,
  dictionary: new Uint8Array(0),
};

test("readChunkInfoV2() gives back what writeChunkInfoV2() took", () => {
  const size = fc.integer({ min: 1, max: 2 ** 24 - 1 });
  const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const common = {
    compressedOffset: fc.maxSafeNat().map((n) => n % 2 ** 40),
    compressedSize: size,
    uncompressedOffset: word.map((n) => n * 4096),
    uncompressedSize: size,
  };
  const none = fc.constant(0);
  const plain = fc.record({ ...common, flags: fc.constant(0x11), crc: word, unit: none, unitOffset: none });
  const inUnit = fc.record({
    ...common,
    flags: fc.constantFrom(0x3, 0x5),
    crc: none,
    unit: word,
    unitOffset: word,
  });
  fc.assert(
    fc.property(fc.oneof(plain, inUnit), (chunk: ChunkInfoV2) => {
      const view = viewOf(new Uint8Array(ENTRY_SIZE_V2));
      writeChunkInfoV2(view, 0, chunk);
      expect(readChunkInfoV2(view, 0)).toEqual(chunk);
    }),
  );
});

test("units come back as they were written", () => {
  const batches = [{ kind: "batch", storedSize: 5, size: 9 }] as const;
  expect(decodeBatches(encodeBatches(batches), 1)).toEqual(batches);
  const windows = [whole, { ...whole, bits: 3, previousByte: 0xe0, dictionary: Buffer.from("abc") }];
  const found = decodeWindows(encodeWindows(windows), 2, file.length);
  expect(found.map(({ dictionary, ...rest }) => ({ ...rest, dictionary: [...dictionary] }))).toEqual(
    windows.map(({ dictionary, ...rest }) => ({ ...rest, dictionary: [...dictionary] })),
  );
});

test("damaged records of units are refused, or stay inside the layer and their limits", () => {
  const encoded = encodeWindows([whole, { ...whole, dictionary: Buffer.from("abc") }]);
  fc.assert(
    fc.property(fc.nat(encoded.length - 1), fc.nat(255), fc.nat(encoded.length), (at, value, cut) => {
      const damaged = Uint8Array.from(encoded).subarray(0, encoded.length - (cut % 50));
      damaged[at] = value;
      for (const unit of unlessCorrupt(() => decodeWindows(damaged, 2, file.length)) ?? []) {
        expect(unit.inOffset + unit.storedSize).toBeLessThanOrEqual(file.length);
        expect(unit.size).toBeLessThanOrEqual(2 ** 25);
        const stored = file.subarray(unit.inOffset, unit.inOffset + unit.storedSize);
        const data = unlessCorrupt(() => expandWindow(unit, stored));
        if (data !== undefined) expect(data.byteLength).toBe(unit.size);
      }
    }),
    { numRuns: 400 },
  );
});
