import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkTree, writeExpected } from "../../tests/support/check-tree.ts";
import { makeImage } from "../../tests/support/make-image.ts";
import { writeNydusLayout } from "../../tests/support/nydus-layout.ts";
import { byteStringOf } from "../base/byte-string.ts";
import { corrupt } from "../base/error.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { readTar } from "../tar/reader.ts";
import { dumpTree } from "../tree/dump.ts";
import { LayerTreeBuilder } from "../tree/layer-tree.ts";
import { type ChunkRef, type Directory, directory, IMPLICIT_DIRECTORY } from "../tree/tree.ts";
import { unpackDirectory } from "./directory.ts";
import { treeToTar } from "./tar.ts";

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "unpack-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

async function* noChunks(): AsyncGenerator<Uint8Array, undefined> {}

async function* failing(): AsyncGenerator<Uint8Array, undefined> {
  yield await Promise.reject(corrupt("Cannot use chunk 0: it does not match its digest"));
}

/** What a runtime would make of a layer. */
async function treeOf(tar: AsyncIterable<Uint8Array>): Promise<Directory> {
  const builder = new LayerTreeBuilder();
  for await (const entry of readTar(tar)) {
    const { path, kind, size, linkTarget, major, minor } = entry;
    if (kind === "file") builder.addFile(path, entry, size, []);
    else if (kind === "directory") builder.addDirectory(path, entry);
    else if (kind === "symlink") builder.addSymlink(path, entry, linkTarget);
    else if (kind === "hardlink") builder.addHardlink(path, linkTarget);
    else if (kind === "fifo") builder.addFifo(path, entry);
    else builder.addDevice(path, entry, { kind, major, minor });
  }
  return builder.root;
}

describe.each([401, 402, 403])("image made from seed %i", (seed) => {
  test("unpackDirectory() shows 0 differences from what the image holds", async () => {
    const { layers, tree } = makeImage(seed);
    await writeExpected(join(place, "tree.jsonl"), tree);
    const { nydus } = await writeNydusLayout(place, layers, { chunkSize: 4096 });
    await using image = await NydusImage.open({ location: nydus });
    const target = join(place, "new/out");
    await unpackDirectory(image.root, target, (wanted) => image.chunks(wanted));
    expect(await checkTree(join(place, "tree.jsonl"), target)).toMatch(/, 0 differences$/);
  });

  test("treeToTar() keeps every entry and every byte", async () => {
    const { layers } = makeImage(seed);
    const { nydus } = await writeNydusLayout(place, layers);
    await using image = await NydusImage.open({ location: nydus });
    let entries = 0;
    const onProgress = (count: number): void => {
      entries += count;
    };
    const tar = await Array.fromAsync(
      treeToTar(image.root, (wanted) => image.chunks(wanted), { onProgress }),
    );
    const again = [
      ...dumpTree(
        await treeOf(
          (async function* () {
            yield* tar;
          })(),
        ),
      ),
    ];
    const wanted = [...dumpTree(image.root)];
    expect(again).toEqual(wanted);
    expect(entries).toBe(wanted.length);
  });
});

describe("unpackDirectory()", () => {
  const empty = directory(IMPLICIT_DIRECTORY);

  test.each([
    ["a file in it", async (dir: string) => writeFile(join(dir, "there"), "")],
    ["a link in it", async (dir: string) => symlink("/", join(dir, "there"))],
  ])("refuses a directory with %s", async (_, fill) => {
    const target = join(place, "out");
    await mkdir(target);
    await fill(target);
    await expect(unpackDirectory(empty, target, noChunks)).rejects.toMatchObject({ code: "exists" });
    expect(await readdir(target)).toEqual(["there"]);
  });

  test("refuses a file in the directory's place", async () => {
    await writeFile(join(place, "out"), "mine");
    await expect(unpackDirectory(empty, join(place, "out"), noChunks)).rejects.toThrow("Cannot unpack to");
    expect(await readFile(join(place, "out"), "utf8")).toBe("mine");
  });

  test.each(["..", "../../escaped", "/escaped", ".", "a/b"])(
    "writes nothing for the name %j",
    async (name) => {
      const root = directory(IMPLICIT_DIRECTORY);
      root.entries.set(byteStringOf(name), {
        kind: "symlink",
        attributes: IMPLICIT_DIRECTORY,
        target: byteStringOf("/"),
      });
      await expect(unpackDirectory(root, join(place, "out"), noChunks)).rejects.toMatchObject({
        code: "corrupt",
      });
      expect(await readdir(place)).toEqual(["out"]);
      expect(await readdir(join(place, "out"))).toEqual([]);
    },
  );

  test("leaves an unfinished directory to root alone when data is damaged", async () => {
    const root = directory(IMPLICIT_DIRECTORY);
    const chunks = [{} as ChunkRef];
    const file = { kind: "file", attributes: IMPLICIT_DIRECTORY, size: 1, chunks } as const;
    root.entries.set(byteStringOf("file"), file);
    const target = join(place, "out");
    await expect(unpackDirectory(root, target, failing)).rejects.toMatchObject({ code: "corrupt" });
    expect((await stat(target)).mode & 0o777).toBe(0o700);
  });

  test("stops at its signal", async () => {
    const root = directory(IMPLICIT_DIRECTORY);
    for (let i = 0; i < 1000; i++) root.entries.set(byteStringOf(`${i}`), directory(IMPLICIT_DIRECTORY));
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    const unpacked = unpackDirectory(root, join(place, "out"), noChunks, { signal: stop.signal, onProgress });
    await expect(unpacked).rejects.toThrow();
    expect((await readdir(join(place, "out"))).length).toBeLessThan(1000);
  });
});
