import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeNydusLayout } from "../../tests/support/nydus-layout.ts";
import { blobPath } from "../../tests/support/oci-layout.ts";
import type { TarItem } from "../../tests/support/tar-builder.ts";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import type { ByteRange } from "../content/content.ts";
import type { RegularFile } from "../tree/tree.ts";
import { NydusImage } from "./nydus-image.ts";

const CHUNK = 4096;
const DATA = Buffer.from(Uint32Array.from({ length: 5000 }, (_, i) => Math.imul(i, 2654435761)).buffer);
const LAYER: readonly TarItem[] = [
  { path: "data", type: "file", data: DATA },
  { path: "empty", type: "file", data: Buffer.alloc(0) },
];

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "nydus-image-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

function fileOf(image: NydusImage, name: string): RegularFile {
  const node = image.root.entries.get(byteStringOf(name) as ByteString);
  if (node?.kind !== "file") throw new Error(`no file ${name}`);
  return node;
}

async function readWhole(image: NydusImage, name: string, range?: ByteRange): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(image.read(fileOf(image, name), range)));
}

async function layout() {
  return await writeNydusLayout(place, [LAYER], { chunkSize: CHUNK });
}

test.each([
  [0, DATA.byteLength],
  [0, 1],
  [CHUNK - 1, CHUNK + 1],
  [CHUNK, 2 * CHUNK],
  [3 * CHUNK + 7, DATA.byteLength],
  [DATA.byteLength, DATA.byteLength],
])("read() gives bytes %i to %i of a file", async (start, end) => {
  await using image = await NydusImage.open({ location: (await layout()).nydus });
  expect(await readWhole(image, "data", { start, end })).toEqual(DATA.subarray(start, end));
  expect(await readWhole(image, "empty")).toEqual(Buffer.alloc(0));
});

test("read() refuses a range outside the file", async () => {
  await using image = await NydusImage.open({ location: (await layout()).nydus });
  for (const [start, end] of [
    [-1, 5],
    [5, 4],
    [0, DATA.byteLength + 1],
    [Number.NaN, 1],
  ] as const)
    await expect(readWhole(image, "data", { start, end })).rejects.toMatchObject({ code: "usage" });
});

test("read() fetches the chunks that a range touches and no other", async () => {
  const { nydus, directory } = await layout();
  await using image = await NydusImage.open({ location: nydus });
  const file = fileOf(image, "data");
  const [first, , , last] = file.chunks;
  const path = blobPath(directory, `sha256:${first?.blob.id}`);
  const blob = await readFile(path);
  blob.fill(0, 0, last?.compressedOffset);
  await writeFile(path, blob);
  const range = { start: 3 * CHUNK, end: 4 * CHUNK };
  expect(await readWhole(image, "data", range)).toEqual(DATA.subarray(range.start, range.end));
  await expect(readWhole(image, "data", { start: CHUNK, end: CHUNK + 1 })).rejects.toMatchObject({
    code: "corrupt",
  });
});

test("open() takes a bootstrap file, and data from a directory of blobs", async () => {
  const { nydus, directory } = await layout();
  const location = join(place, "image.boot");
  {
    await using image = await NydusImage.open({ location: nydus });
    await writeFile(location, image.bootstrap.bytes);
  }
  await using alone = await NydusImage.open({ location });
  expect([...alone.root.entries.keys()]).toEqual(["data", "empty"]);
  await expect(readWhole(alone, "data")).rejects.toMatchObject({ code: "usage" });
  await using blobs = await NydusImage.open({ location, blobs: join(directory, "blobs", "sha256") });
  expect(await readWhole(blobs, "data")).toEqual(DATA);
  await using backend = await NydusImage.open({ location, backend: nydus });
  expect(await readWhole(backend, "data")).toEqual(DATA);
});

test("open() refuses a bootstrap that breaks a rule, and says which", async () => {
  const { nydus } = await layout();
  await using image = await NydusImage.open({ location: nydus });
  const damaged = Uint8Array.from(image.bootstrap.bytes).fill(0, 1024 + 36, 1024 + 40);
  const location = join(place, "image.boot");
  await writeFile(location, damaged);
  await expect(NydusImage.open({ location })).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringMatching(/^Cannot trust the bootstrap of ".*": the superblock counts 0 blocks/),
  });
});

test("open() says what is no Nydus image, and what is not there", async () => {
  const { plain } = await layout();
  await expect(NydusImage.open({ location: plain })).rejects.toMatchObject({ code: "unsupported" });
  const nowhere = { location: join(place, "nothing"), blobs: place };
  await expect(NydusImage.open(nowhere)).rejects.toMatchObject({ code: "not_found" });
});
