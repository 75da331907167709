import fc from "fast-check";
import { expect, test } from "vitest";
import { type ByteString, byteStringOf } from "../../base/byte-string.ts";
import { type ChunkDigester, chunkHasher } from "../../base/digest.ts";
import type { Directory } from "../../tree/tree.ts";
import { checkBootstrap } from "../check.ts";
import { factsOf, type Sample, sampleTree, treeArbitrary } from "../sample-tree.test-support.ts";
import { V5Bootstrap } from "./bootstrap.ts";
import { checkV5 } from "./check.ts";
import { erofsBootstrap } from "./erofs.ts";
import { readTree } from "./tree-reader.ts";
import { type V5WriteOptions, writeBootstrapV5 } from "./writer.ts";

async function options({ blobs }: Sample, digester: ChunkDigester = "sha256"): Promise<V5WriteOptions> {
  return { ...blobs.options, hasher: await chunkHasher(digester) };
}

async function roundTrip(sample: Sample): Promise<void> {
  const image = writeBootstrapV5(sample.root, await options(sample));
  expect(await checkV5(image)).toEqual([]);
  const opened = new V5Bootstrap(image);
  expect(factsOf(readTree(opened))).toEqual(factsOf(sample.root));
  expect(checkBootstrap(erofsBootstrap(opened))).toEqual([]);
}

test("writeBootstrapV5() writes what readTree() reads back and checkV5() passes", async () => {
  await roundTrip(sampleTree());
});

test("writeBootstrapV5() does so for any tree", { timeout: 120_000 }, async () => {
  await fc.assert(fc.asyncProperty(treeArbitrary, roundTrip), { numRuns: 100 });
});

test("writeBootstrapV5() hashes inodes by either algorithm", async () => {
  const sample = sampleTree();
  expect(await checkV5(writeBootstrapV5(sample.root, await options(sample, "blake3")))).toEqual([]);
});

test("writeBootstrapV5() gives the same bytes for the same tree, whatever the order of its entries", async () => {
  const sample = sampleTree();
  const { root } = sample;
  const image = writeBootstrapV5(root, await options(sample));
  const reversed: Directory = { ...root, entries: new Map([...root.entries].reverse()) };
  expect(Buffer.compare(image, writeBootstrapV5(reversed, await options(sample)))).toBe(0);
});

test("writeBootstrapV5() lists the numbers of prefetch paths, and passes over what is not there", async () => {
  const sample = sampleTree();
  const paths = ["/many", "/no/such", "hard-1", "/"].map(byteStringOf);
  const bytes = writeBootstrapV5(sample.root, { ...(await options(sample)), prefetch: paths });
  const image = new V5Bootstrap(bytes);
  const { offset, size } = image.superblock.prefetchTable;
  const numbers = Array.from({ length: size / 4 }, (_, i) => image.view.getUint32(offset + 4 * i, true));
  expect(numbers).toEqual([...["many", "hard-1"].map((name) => image.lookup(1, byteStringOf(name))), 1]);
});

test("writeBootstrapV5() refuses names that no file can have", async () => {
  const sample = sampleTree();
  const wanted = await options(sample);
  for (const name of ["", ".", "..", "a/b", "a\0b", "n".repeat(256)]) {
    const entries = new Map([[name as ByteString, sample.blobs.file(0)]]);
    expect(() => writeBootstrapV5({ ...sample.root, entries }, wanted)).toThrow("no file can have it");
  }
});
