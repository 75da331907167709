import { mkdtemp, rm, stat as statFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ConvertOptions } from "../lib/convert/image.ts";
import { writeNydusLayout } from "../tests/support/nydus-layout.ts";
import { blobPath } from "../tests/support/oci-layout.ts";
import type { TarItem } from "../tests/support/tar-builder.ts";
import { runVerb } from "./command.test-support.ts";
import { inspect } from "./inspect.ts";
import { stat } from "./stat.ts";

const CHUNK = 4096;
let place: string;
beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), "stat-"));
});
afterAll(() => rm(place, { recursive: true }));

const chunk = (value: number): Buffer => Buffer.alloc(CHUNK, value);
const file = (path: string, ...chunks: Buffer[]): TarItem => ({
  path,
  type: "file",
  data: Buffer.concat(chunks),
});
const LOWER = [
  file("a", chunk(1), chunk(2)),
  file("b", chunk(1)),
  { path: "c", type: "hardlink", target: "b" },
  file("hidden", chunk(3)),
] as const satisfies TarItem[];

async function make(
  name: string,
  layers: readonly (readonly TarItem[])[],
  options: Partial<ConvertOptions> = {},
) {
  return await writeNydusLayout(place, layers, {
    name,
    chunkSize: CHUNK,
    compressor: "none",
    ...options,
  });
}

async function json(...argv: string[]) {
  const { lines, error } = await runVerb(stat, ["--json", ...argv]);
  expect(error).toBeUndefined();
  return JSON.parse(lines.join("\n"));
}

test("stat counts files, chunks and stored bytes, by layer and by kind", async () => {
  const upper = [
    { path: ".wh.hidden", type: "file" },
    file("d", chunk(4)),
    { path: "l", type: "symlink", target: "a" },
  ] as const;
  const { nydus, directory } = await make("one", [LOWER, upper, []]);
  const { images, together } = await json(nydus);
  const [image] = images;
  expect(together).toBeUndefined();
  expect(image).toMatchObject({
    kinds: {
      directory: { names: 1, inodes: 1, bytes: 0 },
      file: { names: 4, inodes: 3, bytes: 4 * CHUNK },
      symlink: { names: 1 },
    },
    referenced: { count: 4, bytes: 4 * CHUNK },
    distinct: { count: 3, bytes: 3 * CHUNK, stored: 3 * CHUNK },
    dedup: 4 / 3,
    compression: 1,
    blobs: [
      { layer: 1, chunks: 3, used: { count: 2, stored: 2 * CHUNK }, fileBytes: 3 * CHUNK },
      { layer: 2, chunks: 1, used: { count: 1 }, fileBytes: CHUNK },
      { layer: 3, chunks: 0, used: { count: 0, bytes: 0, stored: 0 } },
    ],
  });
  for (const { id, size } of image.blobs)
    expect(size).toBe((await statFile(blobPath(directory, `sha256:${id}`))).size);
  const { lines } = await runVerb(stat, [nydus]);
  expect(lines).toContain("  dedup       12.3 KB in 3 different chunks, 1.33 times less");
});

test("stat of several images shows what they share, and what they store twice", async () => {
  const a = await make("first", [LOWER]);
  const b = await make("second", [LOWER, [file("more", chunk(2), chunk(9))]]);
  const { images, together } = await json(a.nydus, b.nydus);
  const sizes = images.map(({ stored }: { stored: number }) => stored);
  expect(together).toMatchObject({
    alone: sizes[0] + sizes[1],
    // The lower layer's blob is in both.
    stored: sizes[0] + sizes[1] - images[0].blobs[0].size,
    contents: { count: 4, bytes: 4 * CHUNK },
    repeated: { count: 1, bytes: CHUNK, stored: CHUNK },
  });
});

test("stat counts what lies in shared stored units once", async () => {
  const { nydus } = await make("ref", [LOWER], { reference: true });
  const [image] = (await json(nydus)).images;
  const [blob] = image.blobs;
  expect(blob.used).toMatchObject({ count: 3, bytes: 3 * CHUNK });
  expect(blob.used.stored).toBeGreaterThan(0);
  expect(blob.used.stored).toBeLessThanOrEqual(blob.size);
});

test("stat takes bootstrap files", async () => {
  const { nydus } = await make("alone", [LOWER]);
  const bootstrap = join(place, "image.boot");
  await runVerb(inspect, ["--save", bootstrap, nydus]);
  const [image] = (await json(bootstrap)).images;
  const size = (await statFile(bootstrap)).size;
  expect(image).toMatchObject({ bootstrapSize: size, stored: size + image.blobs[0].size });
  expect(image.distinct).toEqual((await json(nydus)).images[0].distinct);
});
