import { expect, test } from "vitest";
import { decodeToc, encodeToc, type TocEntry } from "./toc.ts";

const entry = (name: string, compressor: TocEntry["compressor"]): TocEntry => ({
  name,
  compressor,
  digest: new Uint8Array(32).fill(name.length),
  offset: 2 ** 33 + 7,
  compressedSize: 2 ** 34 + 1,
  uncompressedSize: 5,
});

test("decodeToc() gives back what was encoded, the unterminated name too", () => {
  const entries = [entry("image.blob", "none"), entry("blob.meta.header", "zstd"), entry("x", "lz4_block")];
  const toc = encodeToc(entries);
  expect(toc.byteLength).toBe(3 * 128);
  expect(decodeToc(toc)).toEqual(entries);
});

test.each([
  ["no compressor", 0],
  ["two compressors", 3],
])("decodeToc() refuses an entry with %s", (_, flags) => {
  const toc = encodeToc([entry("image.blob", "none")]);
  toc[0] = flags;
  expect(() => decodeToc(toc)).toThrow("name no compressor");
});

test("decodeToc() refuses half an entry", () => {
  expect(() => decodeToc(new Uint8Array(200))).toThrow("not a whole number of entries");
});
