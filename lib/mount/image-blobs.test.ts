import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { quietLogger } from "../base/log.ts";
import { BlobCache } from "../blob/cache.ts";
import { fetcherOf, sampleBlob } from "../blob/sample-blob.test-support.ts";
import { ImageBlobs } from "./image-blobs.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nydus-image-blobs-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test("ImageBlobs.settle() lets what is on its way reach the cache, for the next mount", async () => {
  const { map, stored } = await sampleBlob({ chunks: 3, size: 8192 });
  const fetcher = fetcherOf(stored);
  const gate = Promise.withResolvers<void>();
  fetcher.gate = gate.promise;
  using cache = new BlobCache(directory);
  const open = () =>
    ImageBlobs.open({ maps: [map], cache, fetcher, log: quietLogger, deviceNumber: () => 0 });
  {
    using blobs = await open();
    const read = blobs.blobs[0]?.reader.read(0, new Uint8Array(100));
    const settled = blobs.settle();
    gate.resolve();
    await settled;
    await read;
  }
  using blobs = await open();
  expect(blobs.blobs[0]?.cached.complete).toBe(true);
  expect(fetcher.ranges).toHaveLength(1);
});

test("ImageBlobs.settle() does not wait for ever for a source that hangs", async () => {
  const { map, stored } = await sampleBlob({ chunks: 1, size: 8192 });
  const fetcher = fetcherOf(stored);
  fetcher.gate = new Promise(() => {});
  using cache = new BlobCache(directory);
  using blobs = await ImageBlobs.open({
    maps: [map],
    cache,
    fetcher,
    log: quietLogger,
    deviceNumber: () => 0,
  });
  blobs.blobs[0]?.reader.read(0, new Uint8Array(100)).catch(() => {});
  await blobs.settle();
  expect(blobs.blobs[0]?.cached.complete).toBe(false);
});
