import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { golden, hasGolden } from "../../../tests/support/golden.ts";
import { chunkHasher } from "../../base/digest.ts";
import { openBootstrap } from "../bootstrap.ts";
import { checkBootstrap } from "../check.ts";
import { readChunks } from "../chunk-maps.ts";
import { bootstrapOf } from "../oci-layout.test-support.ts";
import { readTree as readTreeV6 } from "../tree-reader.ts";
import { V5Bootstrap } from "./bootstrap.ts";
import { checkV5 } from "./check.ts";
import { chunkMaps } from "./chunk-maps.ts";
import { erofsBootstrap } from "./erofs.ts";
import { inodeRecord } from "./inode.ts";
import { readTree } from "./tree-reader.ts";
import { writeBootstrapV5 } from "./writer.ts";

const IMAGES = {
  "v5-zstd (blake3)": () => bootstrapOf(golden("images", "v5-zstd")),
  "v5-lz4 (blake3)": () => bootstrapOf(golden("images", "v5-lz4")),
  "v5-sha256": async () => readFileSync(golden("direct", "v5-sha256", "bootstrap")),
};

describe.skipIf(!hasGolden).each(Object.entries(IMAGES))("golden %s", (_, load) => {
  test("passes the complete check", async () => {
    expect(await checkV5(await load())).toEqual([]);
  });

  test("becomes an EROFS bootstrap that passes v6's complete check", async () => {
    expect(checkBootstrap(erofsBootstrap(new V5Bootstrap(await load())))).toEqual([]);
  });

  test("becomes an EROFS bootstrap with the same tree and the same chunks", async () => {
    const v5 = new V5Bootstrap(await load());
    const v6 = openBootstrap(erofsBootstrap(v5));
    expect(readTreeV6(v6)).toEqual(readTree(v5, "local"));
    expect(readChunks(v6).map(({ map }) => map)).toEqual(chunkMaps(v5));
  });
});

async function rewritten(image: V5Bootstrap): Promise<Uint8Array> {
  const { chunkSize, compressor, digester, prefetchTable } = image.superblock;
  const infos = new Map(image.blobs.map((blob) => [blob.id, { ...blob, uncompressedSize: blob.packedSize }]));
  return writeBootstrapV5(readTree(image), {
    chunkSize,
    compressor,
    hasher: await chunkHasher(digester),
    blobs: (ref) => infos.get(ref.id) ?? expect.fail(`no blob ${ref.id}`),
    ...(prefetchTable.size === 0 ? { prefetch: [] } : {}),
  });
}

const { size: sizeField, blocks: blocksField, rdev, flags } = inodeRecord.fields;

/** Takes over fields of some inodes. */
function takeOver(
  image: V5Bootstrap,
  ours: Uint8Array,
  fields: readonly { readonly offset: number; readonly size: number }[],
  where: (kind: string) => boolean = () => true,
): void {
  for (let number = 1; number <= image.superblock.inodeTable.size / 4; number++) {
    const { at, kind } = image.raw(number);
    if (!where(kind)) continue;
    for (const { offset, size } of fields)
      image.bytes.set(ours.subarray(at + offset, at + offset + size), at + offset);
  }
}

/** Several xattrs of one inode: the reference writes them in the order of a hash map. */
function orderXattrs(image: V5Bootstrap, ours: Uint8Array): number {
  let several = 0;
  for (let number = 1; number <= image.superblock.inodeTable.size / 4; number++) {
    const { xattrs } = image.raw(number);
    if (image.xattrs(number).size < 2) continue;
    image.bytes.set(ours.subarray(xattrs.offset, xattrs.offset + xattrs.size), xattrs.offset);
    several++;
  }
  return several;
}

describe.skipIf(!hasGolden)("golden v5 bootstraps", () => {
  test.each(["v5-zstd", "v5-lz4"])(
    "writeBootstrapV5() gives every byte of %s, but for the order of xattrs and sizes of directories",
    async (name) => {
      const bytes = new Uint8Array(await bootstrapOf(golden("images", name)));
      const image = new V5Bootstrap(bytes);
      const ours = await rewritten(image);
      expect(readTree(new V5Bootstrap(ours))).toEqual(readTree(image));
      expect(orderXattrs(image, ours)).toBeGreaterThan(0);
      // The reference keeps the made-up size that a directory had in its layer, though more is in it now.
      takeOver(image, ours, [sizeField, blocksField], (kind) => kind === "directory");
      expect(ours.byteLength).toBe(bytes.byteLength);
      expect(bytes.findIndex((byte, i) => byte !== ours[i])).toBe(-1);
    },
  );

  test("writeBootstrapV5() gives every byte of v5-sha256, but for xattrs, devices and the mark of hard links", async () => {
    const bytes = new Uint8Array(readFileSync(golden("direct", "v5-sha256", "bootstrap")));
    const image = new V5Bootstrap(bytes);
    const ours = await rewritten(image);
    // From a directory the reference has the source's own device numbers, and does not mark hard links.
    takeOver(image, ours, [rdev, flags]);
    orderXattrs(image, ours);
    expect(bytes.findIndex((byte, i) => byte !== ours[i])).toBe(-1);
  });
});
