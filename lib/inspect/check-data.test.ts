import { mkdtemp, readFile, rm, truncate, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeImage } from "../../tests/support/make-image.ts";
import { writeNydusLayout } from "../../tests/support/nydus-layout.ts";
import { blobPath } from "../../tests/support/oci-layout.ts";
import type { TarItem } from "../../tests/support/tar-builder.ts";
import { NydusError } from "../base/error.ts";
import { END_OF_ARCHIVE } from "../blob/framing.ts";
import type { ConvertOptions } from "../convert/image.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { checkData } from "./check-data.ts";

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "check-data-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

const CHUNK = 4096;
/** Where the data of a blob begins. */
const START = END_OF_ARCHIVE.byteLength;
const noise = (seed: number, size: number): Buffer =>
  Buffer.from(Uint32Array.from({ length: size / 4 }, (_, i) => Math.imul(i + seed, 2654435761)).buffer);
const LAYERS: readonly (readonly TarItem[])[] = [
  [
    { path: "a", type: "file", data: noise(1, 3 * CHUNK) },
    { path: "b", type: "file", data: noise(1, 3 * CHUNK) },
  ],
  [{ path: "c", type: "file", data: noise(77, 2 * CHUNK) }],
];

interface Opened extends AsyncDisposable {
  readonly image: NydusImage;
  /** Files of the data blobs, in the order of the image. */
  readonly paths: readonly string[];
}

async function openSample(options: Partial<ConvertOptions> = {}, layers = LAYERS): Promise<Opened> {
  const { nydus, directory } = await writeNydusLayout(place, layers, { chunkSize: CHUNK, ...options });
  const image = await NydusImage.open({ location: nydus });
  const paths = (await image.chunkMaps()).map(({ blobId }) => blobPath(directory, `sha256:${blobId}`));
  return { image, paths, [Symbol.asyncDispose]: () => image[Symbol.asyncDispose]() };
}

async function flip(path: string, ...places: readonly number[]): Promise<void> {
  const blob = await readFile(path);
  for (const at of places) blob.writeUInt8(blob.readUInt8(at) ^ 1, at);
  await writeFile(path, blob);
}

test.each([{}, { compressor: "lz4_block", digester: "blake3" }, { compressor: "none" }] as const)(
  "checkData() finds nothing wrong with a good image (%j)",
  async (options) => {
    await using sample = await openSample(options, makeImage(431).layers);
    const report = await checkData(sample.image);
    expect(report.violations).toEqual([]);
    expect(report.chunks).toBe((await sample.image.chunkMaps()).reduce((sum, { count }) => sum + count, 0));
    const blobs = sample.image.image?.manifest.layers.slice(0, -1) ?? [];
    expect(report.bytes).toBe(blobs.reduce((sum, { size }) => sum + size, 0));
  },
);

test("checkData() names every damaged chunk, where it lies, and the files that hold it", async () => {
  await using sample = await openSample({ compressor: "none" });
  const [first = "", second = ""] = sample.paths;
  await flip(first, START, START + 2 * CHUNK + 5);
  await flip(second, START + CHUNK);
  const { violations } = await checkData(sample.image);
  const [one, two] = (await sample.image.chunkMaps()).map(({ blobId }) => blobId);
  expect(violations.map(({ message: _, ...rest }) => rest)).toEqual([
    { blob: one, offset: START, chunk: 0, paths: ["/a", "/b"] },
    { blob: one, offset: START + 2 * CHUNK, chunk: 2, paths: ["/a", "/b"] },
    { blob: one, offset: 0, paths: [] },
    { blob: two, offset: START + CHUNK, chunk: 1, paths: ["/c"] },
    { blob: two, offset: 0, paths: [] },
  ]);
});

test("checkData() finds damage that no file shows: in the tables behind the chunks", async () => {
  await using sample = await openSample();
  const [path = ""] = sample.paths;
  await flip(path, (await readFile(path)).byteLength - 600);
  const { violations } = await checkData(sample.image);
  expect(violations).toEqual([
    expect.objectContaining({ offset: 0, paths: [], message: expect.stringContaining("its digest is") }),
  ]);
});

test("checkData() goes on to the next blob after one that is cut short or gone", async () => {
  await using sample = await openSample();
  const [first = "", second = ""] = sample.paths;
  await truncate(first, 1000);
  await unlink(second);
  const { violations, blobs } = await checkData(sample.image);
  expect(blobs).toBe(2);
  expect(violations.map(({ blob }) => blob)).toEqual(
    (await sample.image.chunkMaps()).map(({ blobId }) => blobId),
  );
});

test("checkData() checks the chunks of a bootstrap file whose blobs lie in a directory", async () => {
  await using sample = await openSample();
  const location = join(place, "image.boot");
  await writeFile(location, sample.image.bootstrap.bytes);
  await using alone = await NydusImage.open({ location, blobs: join(sample.paths[0] ?? "", "..") });
  expect((await checkData(alone)).violations).toEqual([]);
});

test("checkData() passes on what is no damage", async () => {
  await using sample = await openSample();
  const signal = AbortSignal.abort(new NydusError("cancelled", "Cannot go on: enough"));
  await expect(checkData(sample.image, { signal })).rejects.toMatchObject({ code: "cancelled" });
});
