import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { fetcherOf } from "../../tests/support/damage.ts";
import { chunkHasher } from "../base/digest.ts";
import { type ExternalSample, externalSample } from "../rafs/external.test-support.ts";
import { hasExternalBlobs } from "../rafs/external.ts";
import { checkImage, openImage } from "../rafs/image.ts";
import { readChunks } from "./chunk-content.ts";
import { loadChunkMaps } from "./load-chunk-maps.ts";
import type { ChunkInfoSource } from "./read-chunk-infos.ts";

const OTHER_ID = "a".repeat(64);

/** Several chunks, one chunk, and less; some begin in one block of the external file. */
const FILES: ReadonlyMap<string, Uint8Array> = new Map(
  [0, 1, 700, 4096, 20_000, 100].map((size) => [
    `f${size}`,
    Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) % 251),
  ]),
);

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), "external-"));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

/** The whole content, file behind file, in the order of their chunks' numbers. */
async function content(
  { bootstrap, data, id }: ExternalSample,
  source: Partial<ChunkInfoSource> = {},
): Promise<Uint8Array> {
  const image = openImage(bootstrap);
  const fetcher = fetcherOf(new Map([[id, data]]));
  const [map] = await loadChunkMaps(image, { fetcher, ...source });
  if (map === undefined) return expect.fail("the image has no blob");
  const places = Array.from({ length: map.count }, (_, index) => ({ map, index }));
  const parts: Uint8Array[] = [];
  for await (const part of readChunks(places, await chunkHasher("sha256"), { fetcher })) parts.push(part);
  return Buffer.concat(parts);
}

const ALL = Buffer.concat([...FILES.values()]);

function damaged(sample: ExternalSample): ExternalSample {
  const data = Uint8Array.from(sample.data);
  data[600] = (data[600] ?? 0) ^ 1;
  data[data.byteLength - 520] = (data[data.byteLength - 520] ?? 0) ^ 1;
  // The bytes of the second file, which has one.
  data[512 + 512] = (data[512 + 512] ?? 0) ^ 1;
  return { ...sample, data };
}

test("a bootstrap of an external file becomes one whose chunks have blocks of their own", async () => {
  const { bootstrap } = await externalSample(FILES);
  expect(await checkImage(bootstrap)).toEqual([]);
  const image = openImage(bootstrap);
  expect(hasExternalBlobs(image)).toBe(true);
  expect(await checkImage(image.bytes)).toEqual([]);
});

describe.each([true, false])("an external file whose chunks have checksums: %s", (checksums) => {
  test("is verified by its name where that is its digest", async () => {
    const sample = await externalSample(FILES, { checksums });
    expect(Buffer.compare(await content(sample), ALL)).toBe(0);
    await expect(content(damaged(sample))).rejects.toMatchObject({ code: "corrupt" });
  });
});

test("an external file with another name is verified by its checksums", async () => {
  const sample = await externalSample(FILES, { id: OTHER_ID });
  expect(Buffer.compare(await content(sample), ALL)).toBe(0);
  await expect(content(damaged(sample))).rejects.toThrow("does not match its checksum");
});

test("an external file that nothing vouches for is read only where that is allowed", async () => {
  const sample = await externalSample(FILES, { id: OTHER_ID, checksums: false });
  const keep = directory();
  await expect(content(sample, { keep })).rejects.toThrow("--allow-unverified");
  expect(Buffer.compare(await content(sample, { keep, allowUnverified: true }), ALL)).toBe(0);
  // What was read then is no reason to believe it now.
  await expect(content(sample, { keep })).rejects.toThrow("--allow-unverified");
  // From the first reading on it may not change.
  await expect(content(damaged(sample), { keep, allowUnverified: true })).rejects.toMatchObject({
    code: "corrupt",
  });
});

test("an external file that is read once is not read whole again", async () => {
  const sample = await externalSample(FILES);
  const keep = directory();
  await content(sample, { keep });
  const image = openImage(sample.bootstrap);
  const [map] = await loadChunkMaps(image, { fetcher: fetcherOf(new Map()), keep });
  expect(map?.count).toBeGreaterThan(5);
});
