import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { fetcherOf } from "../../tests/support/damage.ts";
import { Random } from "../../tests/support/random.ts";
import { tarOf } from "../../tests/support/tar-builder.ts";
import { chunkHasher, digestHex, digestOf } from "../base/digest.ts";
import { readChunks } from "../blob/chunk-content.ts";
import { readLayerBootstrap } from "../blob/layer-bootstrap.ts";
import { loadChunkMaps, withPackedLayers } from "../blob/load-chunk-maps.ts";
import type { TarParts } from "../blob/tar-map.ts";
import type { Fetcher } from "../content/content.ts";
import { streamOf } from "../content/verified.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { checkImage, openImage, type RafsImage } from "../rafs/image.ts";
import { packLayer } from "./pack-layer.ts";

const COMPRESSIONS = ["none", "gzip", "zstd"] as const;
type Compression = (typeof COMPRESSIONS)[number];

/** Files that start all over the tar, some of several pieces. */
function makeTar(): Uint8Array<ArrayBuffer> {
  const random = new Random(7);
  const noise = (size: number): Uint8Array => Uint8Array.from({ length: size }, () => random.below(200));
  const sizes = [0, 1, 511, 512, 4096, 100_000, 700_000, 2_000_000];
  return tarOf(
    sizes.map((size) => ({ path: `f${size}`, type: "file", data: noise(size) })),
  ) as Uint8Array<ArrayBuffer>;
}

interface Packed {
  readonly tar: Uint8Array;
  readonly layer: Uint8Array;
  readonly id: string;
  readonly image: RafsImage;
  readonly keep: string;
}

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), "tarfs-"));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

async function packed(compression: Compression): Promise<Packed> {
  const tar = makeTar();
  const layer =
    compression === "none" ? tar : compression === "gzip" ? Bun.gzipSync(tar) : Bun.zstdCompressSync(tar);
  const original = { mediaType: "", digest: digestOf(layer), size: layer.byteLength };
  const format = { compressor: "none", digester: "sha256", chunkSize: 2 ** 20, tarfs: true } as const;
  const path = join(directory(), "blob");
  const { file, blob } = await packLayer(streamOf(layer), { ...format, path, original, what: "a layer" });
  const stored = new Map([[digestHex(file.digest), new Uint8Array(readFileSync(path))]]);
  const bytes = await readLayerBootstrap(fetcherOf(stored), { ...file, mediaType: "" });
  expect(await checkImage(bytes ?? new Uint8Array())).toEqual([]);
  return { tar, layer, id: blob.id, image: openImage(bytes ?? new Uint8Array()), keep: directory() };
}

function holding({ id, layer }: Packed): Fetcher {
  return fetcherOf(new Map([[id, layer]]));
}

const NOTHING = fetcherOf(new Map());

async function mapOf({ image, keep }: Packed, fetcher: Fetcher, tarParts: TarParts): Promise<ChunkMap> {
  const [map] = await loadChunkMaps(image, { fetcher, keep }, { tarParts });
  return map ?? expect.fail("the image has no blob");
}

/** Every part of a map, verified, must be what the tar has there. */
async function expectTrue(sample: Packed, map: ChunkMap): Promise<void> {
  const fetcher = withPackedLayers(sample.image, sample.keep, holding(sample));
  const places = Array.from({ length: map.count }, (_, index) => ({ map, index }));
  let i = 0;
  for await (const data of readChunks(places, await chunkHasher("sha256"), { fetcher })) {
    const start = map.uncompressedOffset[i++] ?? 0;
    expect(Buffer.compare(data, sample.tar.subarray(start, start + data.byteLength))).toBe(0);
  }
  expect(i).toBe(map.count);
}

describe.each(COMPRESSIONS)("a tarfs layer, compression %s,", (compression) => {
  test.each(["chunks", "pieces"] as const)("gives its tar in %s, from one pass over it", async (parts) => {
    const sample = await packed(compression);
    const fetcher = holding(sample);
    const fetches = vi.spyOn(fetcher, "fetch");
    const map = await mapOf(sample, fetcher, parts);
    expect(fetches).toHaveBeenCalledTimes(1);
    expect(map.count).toBeGreaterThan(7);
    await expectTrue(sample, map);
    // What the pass told is kept: the layer is not asked for again.
    expect(await mapOf(sample, NOTHING, parts)).toEqual(map);
  });

  test("is refused when it is another one, or not what the image says", async () => {
    const sample = await packed(compression);
    const { layer, id } = sample;
    for (const at of [100, layer.byteLength >> 1, layer.byteLength - 1]) {
      const changed = layer.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      const other = fetcherOf(new Map([[id, changed]]));
      await expect(mapOf(sample, other, "pieces")).rejects.toMatchObject({ code: "corrupt" });
    }
    const short = fetcherOf(new Map([[id, layer.subarray(0, layer.byteLength - 512)]]));
    await expect(mapOf(sample, short, "pieces")).rejects.toMatchObject({ code: "corrupt" });
    const twice = fetcherOf(new Map([[id, Buffer.concat([layer, layer])]]));
    await expect(mapOf(sample, twice, "pieces")).rejects.toMatchObject({ code: "corrupt" });
  });

  test("is read again when what was kept of it is damaged", async () => {
    const sample = await packed(compression);
    const map = await mapOf(sample, holding(sample), "pieces");
    const [notes = ""] = readdirSync(sample.keep).filter((name) => name.endsWith(".notes"));
    const good = readFileSync(join(sample.keep, notes));
    for (const bad of [good.subarray(0, 20), good.subarray(0, good.byteLength - 1), Buffer.alloc(100)]) {
      writeFileSync(join(sample.keep, notes), bad);
      expect(await mapOf(sample, holding(sample), "pieces")).toEqual(map);
    }
    for (let at = 0; at < good.byteLength; at += Math.ceil(good.byteLength / 50)) {
      const changed = Buffer.from(good);
      changed[at] = (changed[at] ?? 0) ^ 0x10;
      writeFileSync(join(sample.keep, notes), changed);
      expect(await mapOf(sample, holding(sample), "pieces")).toEqual(map);
    }
  });
});

test("a zstd layer is packed again when its packed form is gone", async () => {
  const sample = await packed("zstd");
  await mapOf(sample, holding(sample), "pieces");
  rmSync(join(sample.keep, "packed"), { recursive: true });
  await expect(mapOf(sample, NOTHING, "pieces")).rejects.toMatchObject({ code: "not_found" });
  await expectTrue(sample, await mapOf(sample, holding(sample), "pieces"));
});

test("a tar that does not end at a block cannot keep its files", async () => {
  const tar = Buffer.concat([makeTar(), Buffer.alloc(100)]);
  const original = { mediaType: "", digest: digestOf(tar), size: tar.byteLength };
  const format = { compressor: "none", digester: "sha256", chunkSize: 2 ** 20, tarfs: true } as const;
  const path = join(directory(), "blob");
  await expect(
    packLayer(streamOf(tar), { ...format, path, original, what: "a layer" }),
  ).rejects.toMatchObject({ code: "unsupported" });
});
