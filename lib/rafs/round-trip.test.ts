import fc from "fast-check";
import { expect, test } from "vitest";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { sha256 } from "../base/digest.ts";
import type { Directory } from "../tree/tree.ts";
import { openBootstrap } from "./bootstrap.ts";
import { checkBootstrap } from "./check.ts";
import { readChunks } from "./chunk-maps.ts";
import { factsOf, overTars, type Sample, sampleTree, treeArbitrary } from "./sample-tree.test-support.ts";
import { withPlacedLinks } from "./tarfs-links.ts";
import { readTree } from "./tree-reader.ts";
import { writeBootstrap } from "./writer.ts";

function roundTrip({ root, blobs }: Sample): void {
  const image = writeBootstrap(root, blobs.options);
  expect(checkBootstrap(image)).toEqual([]);
  expect(factsOf(readTree(openBootstrap(image)))).toEqual(factsOf(root));
}

test("writeBootstrap() writes what readTree() reads back and checkBootstrap() passes", () => {
  roundTrip(sampleTree());
});

test("writeBootstrap() does so for any tree", { timeout: 120_000 }, () => {
  fc.assert(fc.property(treeArbitrary, roundTrip), { numRuns: 150 });
});

function roundTripOverTars(sample: Sample): void {
  const { root, options } = overTars(sample);
  const image = writeBootstrap(root, options);
  expect(checkBootstrap(image)).toEqual([]);
  const opened = openBootstrap(image);
  expect(factsOf(readTree(opened))).toEqual(factsOf(root));
  // Links longer than a block lie where the kernel finds them.
  expect(withPlacedLinks(opened)).toBeUndefined();
}

test("writeBootstrap() does so for trees over tars", { timeout: 120_000 }, () => {
  roundTripOverTars(sampleTree());
  fc.assert(fc.property(treeArbitrary, roundTripOverTars), { numRuns: 100 });
});

test("writeBootstrap() gives the same bytes for the same tree, whatever the order of its entries", () => {
  const { root, blobs } = sampleTree();
  const image = writeBootstrap(root, blobs.options);
  const reversed: Directory = { ...root, entries: new Map([...root.entries].reverse()) };
  expect(Buffer.compare(image, writeBootstrap(reversed, blobs.options))).toBe(0);
  // Pushed images promise these bytes: a change here is a change of every image's digest.
  expect(Buffer.from(sha256(image)).toString("hex")).toMatchInlineSnapshot(
    `"d3a0ba66cb5e7b2d9ccb2391215ac049291674046b79349eb55f1c224bec5255"`,
  );
});

test("writeBootstrap() lists blobs in the order of their first use, and only those", () => {
  const { root, blobs } = sampleTree();
  const only = (name: string): Directory => ({
    ...root,
    entries: new Map([...root.entries].filter(([known]) => known === name)),
  });
  expect(openBootstrap(writeBootstrap(root, blobs.options)).blobs.map(({ id }) => id[0])).toEqual(["1", "0"]);
  expect(openBootstrap(writeBootstrap(only("big"), blobs.options)).blobs.map(({ id }) => id[0])).toEqual([
    "1",
  ]);
  const none = writeBootstrap(only("fifo"), blobs.options);
  expect(openBootstrap(none).blobs).toEqual([]);
  expect(checkBootstrap(none)).toEqual([]);
});

test("writeBootstrap() leaves out xattrs that no Linux file system has, and keeps the rest", () => {
  const { root, blobs } = sampleTree();
  const xattrs = new Map([
    [byteStringOf("com.apple.provenance"), Uint8Array.of(1)],
    [byteStringOf("user.kept"), Uint8Array.of(2)],
  ]);
  const image = openBootstrap(
    writeBootstrap({ ...root, attributes: { ...root.attributes, xattrs } }, blobs.options),
  );
  expect([...image.xattrs(image.rootNid).keys()]).toEqual(["user.kept"]);
});

test("writeBootstrap() puts the nids of prefetch paths into their table, and passes over what is not there", () => {
  const { root, blobs } = sampleTree();
  const paths = ["/many", "/no/such", "hard-1"].map(byteStringOf);
  const image = openBootstrap(writeBootstrap(root, { ...blobs.options, prefetch: paths }));
  const { offset, size } = image.superblock.prefetchTable;
  const nids = Array.from({ length: size / 4 }, (_, i) => image.view.getUint32(offset + 4 * i, true));
  expect(nids).toEqual(["many", "hard-1"].map((name) => image.lookup(image.rootNid, byteStringOf(name))));
});

test("Bootstrap.extents() clips to the file, and joins what lies side by side", () => {
  const { root, blobs } = sampleTree();
  const image = openBootstrap(writeBootstrap(root, blobs.options));
  const big = image.lookup(image.rootNid, byteStringOf("big")) ?? 0;
  expect(image.extents(big, 0, 1e9)).toEqual([{ blob: 0, offset: 0, length: 3 * 4096 + 1 }]);
  expect(image.extents(big, 4000, 200)).toEqual([{ blob: 0, offset: 4000, length: 200 }]);
  expect(image.extents(big, 3 * 4096 + 1, 10)).toEqual([]);
});

test("Bootstrap.lookup() finds every name of a large directory, and no other", () => {
  const { root, blobs } = sampleTree();
  const image = openBootstrap(writeBootstrap(root, blobs.options));
  const many = image.lookup(image.rootNid, byteStringOf("many")) ?? 0;
  const entries = [...image.readdir(many)];
  expect(entries).toHaveLength(402);
  for (const { name, nid } of entries) expect(image.lookup(many, name)).toBe(nid);
  for (const name of ["", "!", "n", "zzz", "n-1x"])
    expect(image.lookup(many, byteStringOf(name))).toBe(undefined);
});

test("readChunks() has every chunk once, sorted and with its digest", () => {
  const { root, blobs } = sampleTree();
  const image = openBootstrap(writeBootstrap(root, blobs.options));
  const maps = readChunks(image).map(({ map }) => map);
  const chunks = new Map<string, string>();
  const visit = (dir: Directory): void => {
    for (const node of dir.entries.values()) {
      if (node.kind === "directory") visit(node);
      else if (node.kind === "file")
        for (const { blob, uncompressedOffset, compressedOffset, digest } of node.chunks)
          chunks.set(
            `${blob.id} ${uncompressedOffset} ${compressedOffset}`,
            Buffer.from(digest).toString("hex"),
          );
    }
  };
  visit(root);
  const found = maps.flatMap((map) =>
    Array.from({ length: map.count }, (_, i): [string, string] => [
      `${map.blobId} ${map.uncompressedOffset[i]} ${map.compressedOffset[i]}`,
      Buffer.from(map.digests.subarray(32 * i, 32 * i + 32)).toString("hex"),
    ]),
  );
  expect(new Map(found)).toEqual(chunks);
  for (const { uncompressedOffset } of maps)
    expect([...uncompressedOffset]).toEqual([...uncompressedOffset].sort((a, b) => a - b));
});

test("writeBootstrap() writes directories of a hundred thousand names", () => {
  const { root, blobs } = sampleTree();
  const entries = new Map(Array.from({ length: 100_000 }, (_, i) => [byteStringOf(`n${i}`), blobs.file(0)]));
  const image = writeBootstrap({ ...root, entries }, blobs.options);
  expect(checkBootstrap(image)).toEqual([]);
  expect(readTree(openBootstrap(image)).entries.size).toBe(100_000);
});

test("writeBootstrap() refuses names that no file can have", () => {
  const { root, blobs } = sampleTree();
  for (const name of ["", ".", "..", "a/b", "a\0b", "n".repeat(256)]) {
    const entries = new Map([[name as ByteString, blobs.file(0)]]);
    expect(() => writeBootstrap({ ...root, entries }, blobs.options)).toThrow("no file can have it");
  }
});
