import { expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { sha256 } from "../base/digest.ts";
import { type Bootstrap, openBootstrap } from "../rafs/bootstrap.ts";
import { writeBootstrap } from "../rafs/writer.ts";
import { type BlobRef, type ChunkRef, directory, IMPLICIT_DIRECTORY } from "../tree/tree.ts";
import { NOT_RECORDED } from "./blob-writer.ts";
import { Dictionary, dictionaryTable } from "./dictionary.ts";

/** A bootstrap with one blob, of which each word is a chunk. */
function bootstrapOf(blob: BlobRef, words: readonly string[]): Bootstrap {
  const root = directory(IMPLICIT_DIRECTORY);
  for (const [index, word] of words.entries()) {
    const bytes = Buffer.from(word);
    const size = bytes.byteLength;
    const chunk: ChunkRef = {
      blob,
      index,
      compressedOffset: 10 * index,
      compressedSize: size,
      uncompressedOffset: 4096 * index,
      uncompressedSize: size,
      compressed: false,
      digest: sha256(bytes),
      crc: 0,
    };
    root.entries.set(byteStringOf(word), {
      kind: "file",
      attributes: IMPLICIT_DIRECTORY,
      size,
      chunks: [chunk],
    });
  }
  const ci = 16 * words.length;
  const info = {
    ...NOT_RECORDED,
    id: blob.id,
    index: 0,
    chunkCount: words.length,
    compressor: "zstd",
    digester: "sha256",
    features: 0x7000_0021,
    compressedSize: 100_000,
    uncompressedSize: 4096 * words.length,
    ciCompressor: "none",
    ciOffset: 10_000,
    ciCompressedSize: ci,
    ciUncompressedSize: ci,
  } as const;
  const format = { chunkSize: 2 ** 20, compressor: "zstd", digester: "sha256" } as const;
  return openBootstrap(writeBootstrap(root, { ...format, blobs: () => info }));
}

const FIRST = { id: "1".repeat(64) };
const SECOND = { id: "2".repeat(64) };
const find = (dictionary: Dictionary, word: string): ChunkRef | undefined =>
  dictionary.find(sha256(Buffer.from(word)), word.length);

test("Dictionary.find() finds every chunk of every bootstrap and no other", () => {
  const many = Array.from({ length: 300 }, (_, i) => `word ${i}`);
  const dictionary = new Dictionary(
    dictionaryTable([bootstrapOf(FIRST, many), bootstrapOf(SECOND, ["crane", "tide"])]),
  );
  expect(dictionary.size).toBe(302);
  for (const [index, word] of many.entries())
    expect(find(dictionary, word)).toMatchObject({ blob: FIRST, index, compressedOffset: 10 * index });
  expect(find(dictionary, "tide")).toMatchObject({ blob: SECOND, index: 1 });
  expect(find(dictionary, "rope")).toBeUndefined();
  expect(dictionary.find(sha256(Buffer.from("tide")), 5)).toBeUndefined();
  expect(dictionary.info(SECOND)?.chunkCount).toBe(2);
});

test("Dictionary.find() takes the first bootstrap's where several have a chunk", () => {
  const [first, second] = [bootstrapOf(FIRST, ["rope", "tide"]), bootstrapOf(SECOND, ["tide", "crane"])];
  expect(find(new Dictionary(dictionaryTable([first, second])), "tide")?.blob).toEqual(FIRST);
  expect(find(new Dictionary(dictionaryTable([second, first])), "tide")?.blob).toEqual(SECOND);
});

test("dictionaryTable() leaves out chunks that too few bootstraps have", () => {
  const [first, second] = [bootstrapOf(FIRST, ["rope", "tide"]), bootstrapOf(SECOND, ["tide", "crane"])];
  const dictionary = new Dictionary(dictionaryTable([first, second], 2));
  expect([...dictionary.chunks()].map(({ digest }) => Buffer.from(digest).toString("hex"))).toEqual([
    Buffer.from(sha256(Buffer.from("tide"))).toString("hex"),
  ]);
});
