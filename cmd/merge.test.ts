import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { byteStringOf } from "../lib/base/byte-string.ts";
import type { ConvertOptions } from "../lib/convert/image.ts";
import { readLayerFile } from "../lib/convert/layer-files.ts";
import { NydusImage } from "../lib/image/nydus-image.ts";
import { makeImage } from "../tests/support/make-image.ts";
import { writeNydusLayout } from "../tests/support/nydus-layout.ts";
import { blobPath } from "../tests/support/oci-layout.ts";
import type { TarItem } from "../tests/support/tar-builder.ts";
import { runVerb } from "./command.test-support.ts";
import { merge } from "./merge.ts";

let place: string;
let output: string;
beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), "merge-"));
  output = join(place, "out.boot");
});
afterAll(() => rm(place, { recursive: true }));

interface Made {
  /** Of its layers, lowest first. */
  readonly blobs: readonly string[];
  readonly bootstrap: Uint8Array;
}

let count = 0;
async function make(
  layers: readonly (readonly TarItem[])[],
  options: Partial<ConvertOptions> = {},
): Promise<Made> {
  const name = `image${++count}`;
  const { nydus, directory } = await writeNydusLayout(place, layers, { name, chunkSize: 4096, ...options });
  await using image = await NydusImage.open({ location: nydus });
  const blobs = image.image?.manifest.layers.slice(0, -1) ?? [];
  return { blobs: blobs.map(({ digest }) => blobPath(directory, digest)), bootstrap: image.bootstrap.bytes };
}

async function merged(...argv: string[]): Promise<Uint8Array> {
  const { error } = await runVerb(merge, ["-o", output, ...argv]);
  expect(error).toBeUndefined();
  return new Uint8Array(await readFile(output));
}

/** The bootstraps inside blobs, as files. */
async function extracted(blobs: readonly string[], nameOf: (blob: string, i: number) => string) {
  return await Promise.all(
    blobs.map(async (blob, i) => {
      const path = join(place, nameOf(blob, i));
      await writeFile(path, (await readLayerFile(blob)).bytes);
      return path;
    }),
  );
}

const SMALL: readonly (readonly TarItem[])[] = [
  [
    { path: "a/kept", type: "file", data: Buffer.from("kept") },
    { path: "a/gone", type: "file", data: Buffer.from("gone") },
    { path: ".wh.never", type: "file" },
  ],
  [
    { path: "a/.wh.gone", type: "file" },
    { path: "b", type: "file", data: Buffer.from("new") },
  ],
];
const stem = (blob: string): string => blob.slice(-64);

test.each([
  ["awkward files", makeImage(441).layers, {}],
  ["gzip layers", SMALL, { reference: true }],
  ["RAFS v5", SMALL, { fsVersion: 5, compressor: "lz4_block" }],
] as const)(
  "merge makes of an image's blobs the bootstrap that the image has: %s",
  async (_, layers, options) => {
    const { blobs, bootstrap } = await make(layers, options);
    expect(Buffer.compare(await merged(...blobs), bootstrap)).toBe(0);
    // Nothing is lost when it goes through merge again.
    await copyFile(output, join(place, "again.boot"));
    expect(Buffer.compare(await merged(join(place, "again.boot")), bootstrap)).toBe(0);
  },
);

test("merge knows a layer's blob by the name of its bootstrap, or by --blob-digests", async () => {
  const { blobs, bootstrap } = await make(SMALL);
  const named = await extracted(blobs, (blob) => `${stem(blob)}.boot`);
  expect(Buffer.compare(await merged(...named), bootstrap)).toBe(0);
  const others = await extracted(blobs, (_, i) => `layer${i}.boot`);
  const digests = blobs.map((blob) => `sha256:${stem(blob)}`).join(",");
  expect(Buffer.compare(await merged("--blob-digests", digests, ...others), bootstrap)).toBe(0);
  const { error } = await runVerb(merge, ["-o", output, ...others]);
  expect(error).toMatchObject({ code: "usage", message: expect.stringContaining("--blob-digests") });
});

test("merge --blob-sizes and the TOC's flags go into the blob table", async () => {
  const { blobs } = await make(SMALL);
  const digests = `${"ab".repeat(32)},`;
  const flags = ["--blob-sizes", "5000,", "--blob-toc-digests", digests, "--blob-toc-sizes", "640,"];
  await merged(...flags, ...blobs);
  await using image = await NydusImage.open({ location: output });
  const own = image.bootstrap.blobs.find(({ id }) => id === stem(blobs[0] ?? ""));
  expect(own).toMatchObject({ compressedSize: 5000, tocSize: 640 });
  const { error } = await runVerb(merge, ["-o", output, "--blob-sizes", "1", ...blobs]);
  expect(error).toMatchObject({
    code: "usage",
    message: "Cannot use --blob-sizes: it has 1 items for 2 layers",
  });
});

test("merge --parent-bootstrap puts layers on a finished image", async () => {
  const whole = await make(SMALL);
  const lower = await make(SMALL.slice(0, 1));
  const parent = join(place, "parent.boot");
  await writeFile(parent, lower.bootstrap);
  const [, upper = ""] = whole.blobs;
  expect(Buffer.compare(await merged("--parent-bootstrap", parent, upper), whole.bootstrap)).toBe(0);
});

test("merge --prefetch names what is wanted first", async () => {
  const { blobs, bootstrap } = await make(SMALL, { prefetch: [byteStringOf("/b")] });
  expect(Buffer.compare(await merged("--prefetch", "/b", ...blobs), bootstrap)).toBe(0);
});

test("merge --json names the blobs in the order of the table", async () => {
  const { blobs } = await make(SMALL);
  const { lines } = await runVerb(merge, ["--json", "-o", output, ...blobs]);
  const made = JSON.parse(lines.join("\n"));
  expect(made).toMatchObject({ output, size: (await readFile(output)).byteLength });
  expect(made.blobs.toSorted()).toEqual(blobs.map(stem).toSorted());
});

test("merge refuses what does not go together, and what is no bootstrap", async () => {
  const one = await make(SMALL);
  const other = await make(SMALL, { chunkSize: 8192 });
  const run = async (...paths: string[]) => (await runVerb(merge, ["-o", output, ...paths])).error;
  expect(await run(one.blobs[0] ?? "", other.blobs[1] ?? "")).toMatchObject({
    code: "unsupported",
    message: expect.stringContaining("they differ in chunk size"),
  });
  const text = join(place, "text");
  await writeFile(text, "no bootstrap".repeat(1000));
  expect(await run(text)).toMatchObject({ code: "corrupt", message: expect.stringContaining("neither") });
  expect(await run(join(place, "nothing"))).toMatchObject({ code: "not_found" });
  expect((await runVerb(merge, [text])).error).toMatchObject({ code: "usage" });
  const damaged = join(place, "damaged");
  await writeFile(damaged, Buffer.from(one.bootstrap).fill(0, 1024 + 36, 1024 + 40));
  expect(await run(damaged)).toMatchObject({ code: "corrupt" });
});
