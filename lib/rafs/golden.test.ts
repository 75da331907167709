import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { golden, hasGolden } from "../../tests/support/golden.ts";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { type Bootstrap, openBootstrap } from "./bootstrap.ts";
import { checkBootstrap } from "./check.ts";
import { readChunks } from "./chunk-maps.ts";
import { checkImage, openImage, readTree as readImageTree } from "./image.ts";
import { inodeSize } from "./inode.ts";
import { hasXattrs } from "./inode-reader.ts";
import { bootstrapOf } from "./oci-layout.test-support.ts";
import type { Region } from "./superblock.ts";
import { readTree } from "./tree-reader.ts";
import { writeBootstrap } from "./writer.ts";

const ALL: readonly string[] = ["/"];
const IMAGES: readonly (readonly [image: string, prefetch: readonly string[]])[] = [
  ["v6-zstd", ALL],
  ["v6-lz4", ALL],
  ["v6-none", ALL],
  ["v6-chunk64k", ALL],
  ["v6-prefetch", ["/bin", "/usr/lib/mod000.py"]],
  ["v6-batch", ALL],
  ["v6-ociref", ALL],
];
const DIRECT: readonly string[] = ["v6-sha256", "v6-dict", "v6-chunk4k", "v6-chunk16m", "v6-encrypt"];

function goldenBootstrap(name: string): Promise<Uint8Array> {
  return bootstrapOf(golden("images", name));
}

function rewritten(image: Bootstrap, prefetch: readonly string[]): Uint8Array {
  const { chunkSize, compressor, digester } = image.superblock;
  const infos = new Map(image.blobs.map((blob) => [blob.id, blob]));
  return writeBootstrap(readTree(image), {
    chunkSize,
    compressor,
    digester,
    blobs: (ref) => infos.get(ref.id) ?? expect.fail(`no blob ${ref.id}`),
    prefetch: prefetch.map(byteStringOf),
    hasXattr: "always",
  });
}

/** Where several xattrs of one inode lie: the reference writes them in the order of a hash map. */
function* unorderedRegions(image: Bootstrap, nid = image.rootNid): Generator<Region & { nid: number }> {
  const inode = image.raw(nid);
  const start = inode.at + inodeSize(inode.extended ? 1 : 0);
  if (hasXattrs(inode) && image.xattrs(nid).size > 1)
    yield { nid, offset: start, size: inode.at + inode.headSize - start };
  if (inode.kind !== "directory") return;
  for (const entry of image.readdir(nid))
    if (entry.name !== "." && entry.name !== "..") yield* unorderedRegions(image, entry.nid);
}

function sortedXattrs(image: Bootstrap, nid: number): [ByteString, string][] {
  return [...image.xattrs(nid)]
    .map(([key, value]): [ByteString, string] => [key, Buffer.from(value).toString("hex")])
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

function expectSameButXattrOrder(bytes: Uint8Array, prefetch: readonly string[]): void {
  const image = openBootstrap(bytes);
  const ours = rewritten(image, prefetch);
  const regions = [...unorderedRegions(image)];
  expect(regions.length).toBeGreaterThan(0);
  const theirs = Buffer.from(bytes);
  for (const { nid, offset, size } of regions) {
    expect(sortedXattrs(openBootstrap(ours), nid)).toEqual(sortedXattrs(image, nid));
    theirs.set(ours.subarray(offset, offset + size), offset);
  }
  expect(ours.byteLength).toBe(bytes.byteLength);
  expect(theirs.findIndex((byte, i) => byte !== ours[i])).toBe(-1);
}

describe.skipIf(!hasGolden)("golden bootstraps", () => {
  test.each(IMAGES)(
    "writeBootstrap() gives every byte of %s, but for the order of xattrs",
    async (name, prefetch) => {
      expectSameButXattrOrder(await goldenBootstrap(name), prefetch);
    },
  );

  test.each(DIRECT)("writeBootstrap() gives every byte of %s, but for the order of xattrs", (name) => {
    expectSameButXattrOrder(readFileSync(golden("direct", name, "bootstrap")), []);
  });

  test("checkBootstrap() finds nothing wrong with them, and readChunks() has all their chunks", async () => {
    const direct = DIRECT.map((name) => readFileSync(golden("direct", name, "bootstrap")));
    const images = await Promise.all(IMAGES.map(([name]) => goldenBootstrap(name)));
    for (const bytes of [...images, ...direct]) {
      expect(checkBootstrap(bytes)).toEqual([]);
      const image = openBootstrap(bytes);
      const chunks = readChunks(image).reduce((sum, { map }) => sum + map.count, 0);
      expect(chunks).toBe(image.superblock.chunkTable.size / 80);
    }
  });

  test.each([
    ["v5-zstd", "it is RAFS v5, not v6"],
    ["v5-lz4", "it is RAFS v5, not v6"],
  ])("openBootstrap() refuses %s and says why", async (name, reason) => {
    const bytes = await goldenBootstrap(name);
    expect(() => openBootstrap(bytes)).toThrow(
      expect.objectContaining({ code: "unsupported", message: `Cannot use the bootstrap: ${reason}` }),
    );
  });

  test.each([["v5-sha256", "it is RAFS v5, not v6"]])(
    "openBootstrap() refuses %s and says why",
    (name, reason) => {
      const bytes = readFileSync(golden("direct", name, "bootstrap"));
      expect(() => openBootstrap(bytes)).toThrow(
        expect.objectContaining({ code: "unsupported", message: `Cannot use the bootstrap: ${reason}` }),
      );
    },
  );

  test.each([
    ["v6-chunk64k", () => goldenBootstrap("v6-chunk64k")],
    ["v6-tarfs", () => readFile(golden("direct", "v6-tarfs", "bootstrap"))],
    ["v5-sha256", () => readFile(golden("direct", "v5-sha256", "bootstrap"))],
  ])("nothing but violations and NydusErrors comes of %s damaged", async (_, load) => {
    const bytes = await load();
    const meaningful = [...bytes.keys()].filter((at) => bytes[at] !== 0);
    const places = fc.array(fc.tuple(fc.nat(meaningful.length - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(places, fc.nat(4 * bytes.length), async (changes, cut) => {
        const damaged = new Uint8Array(bytes).subarray(0, Math.min(cut, bytes.length));
        for (const [i, value] of changes) damaged[meaningful[i] ?? 0] = value;
        const violations = await checkImage(damaged);
        if (violations.length === 0) readImageTree(openImage(damaged));
      }),
      { numRuns: 40 },
    );
  });
});
