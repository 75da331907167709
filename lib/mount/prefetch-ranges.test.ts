import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeNydusLayout } from "../../tests/support/nydus-layout.ts";
import type { TarItem } from "../../tests/support/tar-builder.ts";
import { byteStringOf } from "../base/byte-string.ts";
import { NydusImage } from "../image/nydus-image.ts";
import type { RafsImage } from "../rafs/image.ts";
import { prefetchPaths } from "../rafs/prefetch-table.ts";
import { pathRanges, tableRanges } from "./prefetch-ranges.ts";

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "prefetch-ranges-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

const BLOCK = 4096;
/** Files of one block each, whose content is their letter: they lie in this order. */
const ITEMS: readonly TarItem[] = [
  ...["d/a", "d/b", "c"].map((path): TarItem => ({ path, type: "file", data: Buffer.alloc(BLOCK, path) })),
  { path: "link", type: "symlink", target: "c" },
];

async function image(paths?: readonly string[]): Promise<RafsImage> {
  const prefetch = paths === undefined ? {} : { prefetch: paths.map(byteStringOf) };
  const { nydus } = await writeNydusLayout(place, [ITEMS], { chunkSize: BLOCK, ...prefetch });
  await using opened = await NydusImage.open({ location: nydus });
  return opened.bootstrap;
}

const blocks = (ranges: readonly { offset: number; length: number }[]) =>
  ranges.map(({ offset, length }) => [offset / BLOCK, length / BLOCK]);

test("the table's files are given in its order", async () => {
  const opened = await image(["/c", "/d/b", "/nothing"]);
  expect(blocks(tableRanges(opened))).toEqual([
    [2, 1],
    [1, 1],
  ]);
  expect(prefetchPaths(opened)).toEqual(["/c", "/d/b"]);
});

test("a table that names everything says nothing", async () => {
  const opened = await image();
  expect(opened.superblock.prefetchTable.size).toBe(4);
  expect(tableRanges(opened)).toEqual([]);
  expect(prefetchPaths(opened)).toEqual([]);
});

test("paths are files, directories, all of the image, or nothing", async () => {
  const opened = await image();
  const ranges = (...paths: string[]) => blocks(pathRanges(opened, paths));
  expect(ranges("/d/b")).toEqual([[1, 1]]);
  expect(ranges("c", "/d")).toEqual([
    [2, 1],
    [0, 1],
    [1, 1],
  ]);
  expect(ranges("/")).toHaveLength(3);
  expect(ranges("/c/below", "/none", "/link", "/d/a/")).toEqual([[0, 1]]);
});
