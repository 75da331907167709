import { expect, test } from "vitest";
import { digestOf, sha256 } from "../base/digest.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeFrame } from "./framing.ts";
import { readLayerBootstrap } from "./layer-bootstrap.ts";
import { encodeToc, type TocEntry } from "./toc.ts";

const BOOTSTRAP = Buffer.from("bootstrap ".repeat(100));

interface Shape {
  readonly toc?: (entry: TocEntry) => TocEntry[];
}

/** A blob with data, a bootstrap and a table of contents. */
async function blobOf({ toc = (entry) => [entry] }: Shape): Promise<[MemoryStore, Descriptor]> {
  const stored = Bun.zstdCompressSync(BOOTSTRAP);
  const data = Buffer.concat([Buffer.alloc(100, 1), encodeFrame("image.blob", 100)]);
  const entry: TocEntry = {
    name: "image.boot",
    compressor: "zstd",
    digest: sha256(BOOTSTRAP),
    offset: data.byteLength,
    compressedSize: stored.byteLength,
    uncompressedSize: BOOTSTRAP.byteLength,
  };
  const table = encodeToc(toc(entry));
  const bytes = Buffer.concat([
    data,
    stored,
    encodeFrame("image.boot", stored.byteLength),
    table,
    encodeFrame("rafs.blob.toc", table.byteLength),
  ]);
  const store = new MemoryStore();
  const descriptor = { mediaType: "", digest: digestOf(bytes), size: bytes.byteLength };
  await store.push(descriptor, streamOf(bytes));
  return [store, descriptor];
}

test("readLayerBootstrap() finds it by the table of contents", async () => {
  const [store, blob] = await blobOf({});
  expect(Buffer.from((await readLayerBootstrap(store, blob)) ?? [])).toEqual(BOOTSTRAP);
});

test("readLayerBootstrap() says when there is none", async () => {
  const [store, blob] = await blobOf({ toc: () => [] });
  expect(await readLayerBootstrap(store, blob)).toBeUndefined();
});

test("readLayerBootstrap() takes it as it is from a blob without a table of contents", async () => {
  const size = BOOTSTRAP.byteLength;
  const bytes = Buffer.concat([
    Buffer.alloc(9),
    encodeFrame("image.blob", 9),
    BOOTSTRAP,
    encodeFrame("image.boot", size),
  ]);
  const store = new MemoryStore();
  const blob = { mediaType: "", digest: digestOf(bytes), size: bytes.byteLength };
  await store.push(blob, streamOf(bytes));
  expect(Buffer.from((await readLayerBootstrap(store, blob)) ?? [])).toEqual(BOOTSTRAP);
});

test.each<[string, Partial<TocEntry>]>([
  ["of another content", { digest: new Uint8Array(32) }],
  ["of another size", { uncompressedSize: 5 }],
  ["that claims more memory than there is", { uncompressedSize: 2 ** 40 }],
  ["past the blob's end", { offset: 2 ** 40 }],
  ["that is not compressed as it says", { compressor: "none" }],
])("readLayerBootstrap() refuses one %s", async (_, change) => {
  const [store, blob] = await blobOf({ toc: (entry) => [{ ...entry, ...change }] });
  await expect(readLayerBootstrap(store, blob)).rejects.toMatchObject({ code: "corrupt" });
});

test("readLayerBootstrap() refuses a blob whose size is not the true one", async () => {
  const [store, blob] = await blobOf({});
  await expect(readLayerBootstrap(store, { ...blob, size: blob.size - 1 })).rejects.toMatchObject({
    code: "corrupt",
  });
});
