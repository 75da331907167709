import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeNydusLayout } from "../../../tests/support/nydus-layout.ts";
import { Random } from "../../../tests/support/random.ts";
import type { TarItem } from "../../../tests/support/tar-builder.ts";
import { byteStringOf } from "../../base/byte-string.ts";
import { NydusImage } from "../../image/nydus-image.ts";
import { checkData } from "../../inspect/check-data.ts";
import { prefetchPaths } from "../../rafs/prefetch-table.ts";
import { dumpTree } from "../../tree/dump.ts";
import type { RegularFile } from "../../tree/tree.ts";
import { convert } from "../convert.ts";
import type { ConvertOptions } from "../image.ts";

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "start-layout-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

/** Programs, each larger than what a node bridges to save a request. */
function layer(): TarItem[] {
  const random = new Random(11);
  return Array.from({ length: 12 }, (_, i) => ({
    path: `f${i}`,
    type: "file",
    mode: 0o755,
    data: random.noise(40_000),
  }));
}

const WANTED = ["/f10", "/f7", "/f4", "/f1"];

async function converted(
  name: string,
  prefetch: readonly string[],
  options: Partial<ConvertOptions> = {},
): Promise<string> {
  const paths = prefetch.map(byteStringOf);
  const format = { name, chunkSize: 2 ** 15, prefetch: paths, ...options };
  return (await writeNydusLayout(place, [layer()], format)).nydus;
}

/** Of each file, which of the blob's chunks it has. */
async function indexes(location: string, ...names: string[]): Promise<number[][]> {
  await using image = await NydusImage.open({ location });
  return names.map((name) => {
    const node = image.root.entries.get(byteStringOf(name)) as RegularFile;
    return node.chunks.map(({ index }) => index);
  });
}

test("what is wanted first is first in its blob, in that order, and the rest keeps its own", async () => {
  const nydus = await converted("image", WANTED);
  expect(await indexes(nydus, "f10", "f7", "f4", "f1", "f0", "f2")).toEqual([
    [0, 1],
    [2, 3],
    [4, 5],
    [6, 7],
    [8, 9],
    [10, 11],
  ]);
  await using image = await NydusImage.open({ location: nydus });
  expect(prefetchPaths(image.bootstrap)).toEqual(WANTED);
});

test("an image whose blob was written anew is whole, has the same tree, and the same bytes each time", async () => {
  const [moved, again, plain] = await Promise.all([
    converted("moved", WANTED),
    converted("again", WANTED),
    converted("plain", ["/"]),
  ]);
  await using image = await NydusImage.open({ location: moved });
  const report = await checkData(image, {});
  expect(report.violations).toEqual([]);
  await using other = await NydusImage.open({ location: plain });
  expect([...dumpTree(image.root)]).toEqual([...dumpTree(other.root)]);
  await using same = await NydusImage.open({ location: again });
  expect(same.image?.descriptor.digest).toBe(image.image?.descriptor.digest);
});

test("a blob in which it lies together already is left alone, and so is one of batches", async () => {
  const expected = [
    [0, 1],
    [2, 3],
  ];
  expect(await indexes(await converted("near", ["/f1", "/f0"]), "f0", "f1")).toEqual(expected);
  expect(await indexes(await converted("all", ["/"]), "f0", "f1")).toEqual(expected);
  expect(await indexes(await converted("batches", WANTED, { batchSize: 2 ** 14 }), "f0", "f1")).toEqual(
    expected,
  );
});

test("a blob whose layer takes chunks from a dictionary is written anew as well", async () => {
  const [first, second] = layer();
  if (first === undefined || second === undefined) throw new Error("no files");
  const chunkSize = 2 ** 15;
  const dictionary = await writeNydusLayout(place, [[first, second]], { name: "dictionary", chunkSize });
  const { plain } = await writeNydusLayout(place, [layer()], { chunkSize });
  const target = `oci:${join(place, "with-dictionary")}:n`;
  // The last one is in the dictionary.
  const prefetch = ["/f10", "/f8", "/f6", "/f4", "/f1"].map(byteStringOf);
  await convert({ source: plain, target, compressor: "zstd", chunkDicts: [dictionary.nydus], prefetch });
  expect(await indexes(target, "f10", "f8", "f6", "f4", "f2")).toEqual([
    [0, 1],
    [2, 3],
    [4, 5],
    [6, 7],
    [8, 9],
  ]);
  await using image = await NydusImage.open({ location: target });
  expect((await checkData(image)).violations).toEqual([]);
});
