import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { golden, hasGolden } from "../../tests/support/golden.ts";
import { chunkHasher, digestHex, sameBytes } from "../base/digest.ts";
import type { Fetcher } from "../content/content.ts";
import { streamOf } from "../content/verified.ts";
import { openBootstrap } from "../rafs/bootstrap.ts";
import { type ChunkMap, chunkDigest } from "../rafs/chunk-map.ts";
import { bootstrapOf } from "../rafs/oci-layout.test-support.ts";
import { ChunkDecoder } from "./chunk-decoder.ts";
import { loadChunkMaps } from "./load-chunk-maps.ts";

/** Blobs in any of these directories, by their hex digest. */
function directories(...paths: string[]): Fetcher & { bytes(hex: string): Buffer } {
  const bytes = (hex: string): Buffer => {
    const found = paths.map((path) => `${path}/${hex}`).find(existsSync);
    return found === undefined ? expect.fail(`no blob ${hex}`) : readFileSync(found);
  };
  return {
    bytes,
    async fetch({ digest }, { range } = {}) {
      return streamOf(bytes(digestHex(digest)).subarray(range?.start, range?.end));
    },
  };
}

/** How many chunks come out with their digests. */
async function countGood(map: ChunkMap, blob: Uint8Array): Promise<number> {
  const hasher = await chunkHasher(map.digester);
  const decoder = new ChunkDecoder(map);
  let good = 0;
  for (let i = 0; i < map.count; i++) {
    const start = map.compressedOffset[i] ?? 0;
    const stored = blob.subarray(start, start + (map.compressedLength[i] ?? 0));
    if (sameBytes(hasher.digest(decoder.decode(i, stored)), chunkDigest(map, i))) good++;
  }
  return good;
}

const layout = (...names: string[]): string => golden(...names, "blobs", "sha256");

describe.skipIf(!hasGolden)("golden blobs", () => {
  test.each<[string, number, number]>([
    ["v6-zstd", 1528, 0],
    ["v6-batch", 1528, 7],
    ["v6-ociref", 1528, 22],
  ])("all chunks of image %s come out", async (name, chunks, units) => {
    const store = directories(layout("images", name), layout("plain", "oci"));
    const maps = await loadChunkMaps(openBootstrap(await bootstrapOf(golden("images", name))), {
      fetcher: store,
    });
    const good = await Promise.all(maps.map((map) => countGood(map, store.bytes(map.blobId))));
    expect(good).toEqual(maps.map((map) => map.count));
    expect(good.reduce((sum, count) => sum + count)).toBe(chunks);
    expect(maps.reduce((sum, map) => sum + (map.units?.units.length ?? 0), 0)).toBe(units);
  });

  test.each([
    ["v6-sha256", "v6-sha256"],
    ["v6-encrypt", "v6-encrypt"],
    ["v6-dict", "v6-sha256"],
  ])("all chunks of bootstrap %s come out", async (name, blobs) => {
    const store = directories(golden("direct", blobs, "blobs"));
    const bootstrap = openBootstrap(readFileSync(golden("direct", name, "bootstrap")));
    for (const map of await loadChunkMaps(bootstrap, { fetcher: store }))
      expect(await countGood(map, store.bytes(map.blobId))).toBe(map.count);
  });
});
