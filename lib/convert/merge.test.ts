import { expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { digestFromHex } from "../base/digest.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { openBootstrap } from "../rafs/bootstrap.ts";
import { type ChunkRef, directory, IMPLICIT_DIRECTORY } from "../tree/tree.ts";
import { assertFormat, mergeIntoBootstrap } from "./merge.ts";
import type { PackedContent } from "./packer.ts";

const FORMAT = { compressor: "zstd", digester: "sha256", chunkSize: 2 ** 20 } as const;

/** A layer that holds one file of one chunk. */
function layerOf(number: number, name: string): PackedContent {
  const hex = number.toString(16).padStart(64, "0");
  const blob = { id: hex };
  const chunk: ChunkRef = {
    blob,
    index: 0,
    compressedOffset: 0,
    compressedSize: 4,
    uncompressedOffset: 0,
    uncompressedSize: 4,
    compressed: false,
    digest: Buffer.from(hex, "hex"),
    crc: 0,
  };
  const tree = directory(IMPLICIT_DIRECTORY);
  tree.entries.set(byteStringOf(name), {
    kind: "file",
    attributes: IMPLICIT_DIRECTORY,
    size: 4,
    chunks: [chunk],
  });
  const info: BlobInfo = {
    id: hex,
    index: 0,
    chunkCount: 1,
    compressor: "zstd",
    digester: "sha256",
    features: 0x7000_0021,
    compressedSize: 10_000,
    uncompressedSize: 4096,
    tocSize: 0,
    tocDigest: new Uint8Array(32),
    ciCompressor: "none",
    ciOffset: 516,
    ciCompressedSize: 16,
    ciUncompressedSize: 16,
    metaDigest: new Uint8Array(32),
    metaSize: 0,
  };
  const digest = digestFromHex(hex);
  return { tree, blob, file: { path: "", digest, size: 1, info, chunkInfo: new Uint8Array() } };
}

const idsOf = async (layers: readonly PackedContent[]): Promise<string[]> =>
  openBootstrap((await mergeIntoBootstrap(layers, FORMAT)).bootstrap).blobs.map(({ id }) => id);

test("mergeIntoBootstrap() lists blobs by first use, not by layer, and drops unused ones", async () => {
  const [z, a, hidden, over] = [layerOf(1, "z"), layerOf(2, "a"), layerOf(3, "m"), layerOf(4, "m")];
  expect(await idsOf([z, a, hidden, over])).toEqual([a.blob.id, over.blob.id, z.blob.id]);
});

test("mergeIntoBootstrap() lists equal blobs once, whichever object stands for them", async () => {
  expect((await idsOf([layerOf(1, "a"), layerOf(1, "b"), layerOf(2, "c")])).length).toBe(2);
});

test("mergeIntoBootstrap() takes 254 blobs and refuses 255", async () => {
  const layers = Array.from({ length: 255 }, (_, i) => layerOf(i + 1, `file${i}`));
  expect((await idsOf(layers.slice(1))).length).toBe(254);
  await expect(idsOf(layers)).rejects.toThrow(/255 blobs, more than 254/);
});

test.each([0, 4095, 6000, 2 ** 25, Number.NaN])("assertFormat() refuses %d", (size) => {
  expect(() => assertFormat({ ...FORMAT, chunkSize: size })).toThrow("power of two");
});

test.each([4096, 2 ** 20, 2 ** 24])("assertFormat() takes %d", (size) => {
  expect(() => assertFormat({ ...FORMAT, chunkSize: size })).not.toThrow();
});
