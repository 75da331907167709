import { gzipSync, zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { sha256 } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import { streamStart } from "../base/stream-start.ts";
import type { PiecesUnit } from "../rafs/chunk-map.ts";
import { decodePiecesUnits, descriptionDigest, encodePiecesUnits } from "./pieces-unit.ts";

const digestOf = (text: string): Uint8Array => Uint8Array.from(sha256(Buffer.from(text)));

const UNITS: readonly PiecesUnit[] = [
  {
    kind: "pieces",
    storedSize: 100,
    size: 30,
    pieces: [{ offset: 0, storedSize: 100, skip: 0, size: 30, digest: undefined }],
  },
  {
    kind: "pieces",
    storedSize: 90,
    size: 12,
    pieces: [
      { offset: 0, storedSize: 40, skip: 3, size: 5, digest: digestOf("a") },
      { offset: 40, storedSize: 50, skip: 0, size: 7, digest: digestOf("b") },
    ],
  },
];

test("units of pieces come back as they were written", () => {
  expect(decodePiecesUnits(encodePiecesUnits(UNITS), UNITS.length)).toEqual(UNITS);
  expect(decodePiecesUnits(new Uint8Array(), 0)).toEqual([]);
});

test("damaged records are refused, or stay inside their unit", () => {
  const area = encodePiecesUnits(UNITS);
  for (let at = 0; at < area.byteLength; at++) {
    for (const mask of [0x01, 0x80, 0xff]) {
      const changed = Uint8Array.from(area);
      changed[at] = (changed[at] ?? 0) ^ mask;
      expectSound(changed, 2);
    }
    expectSound(area.subarray(0, at), 2);
  }
  expectSound(area, 2 ** 31);
});

function expectSound(area: Uint8Array, count: number): void {
  let units: readonly PiecesUnit[];
  try {
    units = decodePiecesUnits(area, count);
  } catch (error) {
    expect(isCode(error, "corrupt")).toBe(true);
    return;
  }
  for (const { storedSize, size, pieces } of units) {
    expect(pieces.reduce((sum, piece) => sum + piece.size, 0)).toBe(size);
    for (const piece of pieces) expect(piece.offset + piece.storedSize).toBeLessThanOrEqual(storedSize);
    if (pieces.length > 1) expect(pieces.every(({ digest }) => digest !== undefined)).toBe(true);
  }
}

test("a description's digest changes with everything that it describes", () => {
  const [, unit] = UNITS;
  if (unit === undefined) throw new Error("there is no unit");
  const chunk = { storedOffset: 10, unitOffset: 2, size: 8 };
  const changed = (change: Partial<PiecesUnit["pieces"][number]>): PiecesUnit => ({
    ...unit,
    pieces: unit.pieces.map((piece, i) => (i === 1 ? { ...piece, ...change } : piece)),
  });
  const digests = [
    descriptionDigest(unit, chunk),
    descriptionDigest(unit, { ...chunk, storedOffset: 11 }),
    descriptionDigest(unit, { ...chunk, unitOffset: 3 }),
    descriptionDigest(unit, { ...chunk, size: 9 }),
    descriptionDigest(changed({ digest: digestOf("c") }), chunk),
    descriptionDigest(changed({ skip: 1 }), chunk),
    descriptionDigest(changed({ storedSize: 49 }), chunk),
  ].map((digest) => Buffer.from(digest).toString("hex"));
  expect(new Set(digests).size).toBe(digests.length);
});

const CONTENT = Buffer.from("a stream's first bytes, and what comes behind them");

test.each([
  ["gzip", gzipSync],
  ["zstd", zstdCompressSync],
] as const)("streamStart() gives the first bytes of a %s stream, or of several", (format, compress) => {
  const one = compress(CONTENT);
  const two = Buffer.concat([compress(CONTENT.subarray(0, 9)), compress(CONTENT.subarray(9))]);
  for (const stored of [one, two]) {
    for (const size of [1, 9, 10, CONTENT.byteLength])
      expect(Buffer.from(streamStart(format, stored, size))).toEqual(CONTENT.subarray(0, size));
    expect(() => streamStart(format, stored, CONTENT.byteLength + 1)).toThrow(/Cannot/);
    for (const cut of [0, 1, 5, 12])
      expect(() => streamStart(format, stored.subarray(0, cut), 9)).toThrow(/Cannot/);
  }
  expect(() => streamStart(format, Buffer.from("no stream at all"), 1)).toThrow(/Cannot/);
});

test("streamStart() decodes no more of gzip than it must, and a bounded amount of zstd", () => {
  const bomb = new Uint8Array(200 * 2 ** 20);
  expect(streamStart("gzip", gzipSync(bomb, { level: 1 }), 4096).byteLength).toBe(4096);
  expect(() => streamStart("zstd", zstdCompressSync(bomb), 4096)).toThrow(/Cannot decompress/);
});
