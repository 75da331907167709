/**
 * What every store promises, as tests. A store's test file is one call: `testBlobStore("MemoryStore", open)`.
 *
 * @module
 */
import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { BlobStore, ByteRange } from "./content.ts";
import { readAll, streamOf } from "./verified.ts";

export interface StoreUnderTest extends AsyncDisposable {
  readonly store: BlobStore;
  /** Puts a blob there if the store cannot do it itself. */
  readonly seed?: (descriptor: Descriptor, bytes: Uint8Array) => Promise<void>;
}

/**
 * Not compressible, and longer than what any store reads at once or keeps in memory, so that bodies arrive in several
 * pieces.
 */
export function sampleBytes(size = 4_500_001, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = seed;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export function descriptorOf(bytes: Uint8Array, mediaType: string = MEDIA.octets): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
}

const BYTES = sampleBytes();
const BLOB = descriptorOf(BYTES);
const ABSENT = descriptorOf(new TextEncoder().encode("no store has this"));

async function read(store: BlobStore, descriptor: Descriptor, range?: ByteRange): Promise<Uint8Array> {
  const body = await store.fetch(descriptor, range === undefined ? {} : { range });
  return readAll(body, 2 ** 24, "a test blob");
}

/** The promises of a Fetcher: for stores that are read only, with blobs put there by `seed`. */
export function testFetcher(name: string, open: () => Promise<StoreUnderTest>): void {
  const filled = async (): Promise<StoreUnderTest> => {
    const opened = await open();
    if (opened.seed !== undefined) await opened.seed(BLOB, BYTES);
    else await opened.store.push(BLOB, streamOf(BYTES));
    return opened;
  };

  test(`${name}.fetch() fails with not_found for an absent digest`, async () => {
    await using opened = await filled();
    await expect(read(opened.store, ABSENT)).rejects.toMatchObject({ code: "not_found" });
    await expect(read(opened.store, ABSENT, { start: 0, end: 1 })).rejects.toMatchObject({
      code: "not_found",
    });
  });

  test(`${name}.sizeOf() knows what is there and nothing else`, async () => {
    await using opened = await filled();
    const { store } = opened;
    // Not every place can say.
    if (store.sizeOf === undefined) return;
    expect(await store.sizeOf(BLOB.digest)).toBe(BLOB.size);
    expect(await store.sizeOf(ABSENT.digest)).toBeUndefined();
  });

  test(`${name}.fetch() gives back the bytes`, async () => {
    await using opened = await filled();
    expect(Buffer.compare(await read(opened.store, BLOB), BYTES)).toBe(0);
  });

  test.each([
    ["the start", 0, 10],
    ["the middle", 524_287, 1_048_577],
    ["the end", BYTES.byteLength - 1, BYTES.byteLength],
    ["everything", 0, BYTES.byteLength],
    ["nothing", 77, 77],
  ])(`${name}.fetch() gives a range: %s`, async (_what, start, end) => {
    await using opened = await filled();
    const got = await read(opened.store, BLOB, { start, end });
    expect(Buffer.compare(got, BYTES.subarray(start, end))).toBe(0);
  });

  test.each([
    ["across the end", BYTES.byteLength - 10, BYTES.byteLength + 10],
    ["past the end", BYTES.byteLength + 10, BYTES.byteLength + 20],
    ["backwards", 20, 10],
    ["negative", -10, 10],
  ])(`${name}.fetch() fails with corrupt for a range %s`, async (_what, start, end) => {
    await using opened = await filled();
    await expect(read(opened.store, BLOB, { start, end })).rejects.toMatchObject({ code: "corrupt" });
  });

  test(`${name}.fetch() fails with corrupt when the descriptor has another size`, async () => {
    await using opened = await filled();
    for (const size of [BLOB.size - 1, BLOB.size + 1])
      await expect(read(opened.store, { ...BLOB, size })).rejects.toMatchObject({ code: "corrupt" });
  });

  test(`${name}.fetch() can be left half way`, async () => {
    await using opened = await filled();
    const reader = (await opened.store.fetch(BLOB)).getReader();
    await reader.read();
    await reader.cancel();
    expect(Buffer.compare(await read(opened.store, BLOB), BYTES)).toBe(0);
  });

  test(`${name}.fetch() does nothing once its signal has fired`, async () => {
    await using opened = await filled();
    const signal = AbortSignal.abort();
    await expect(opened.store.fetch(BLOB, { signal })).rejects.toThrow();
  });

  test(`${name}.has() tells present from absent`, async () => {
    await using opened = await filled();
    expect(await opened.store.has(BLOB)).toBe(true);
    expect(await opened.store.has(ABSENT)).toBe(false);
  });
}

/** The promises of a store that can be written, on top of those of a Fetcher. */
export function testBlobStore(name: string, open: () => Promise<StoreUnderTest>): void {
  testFetcher(name, open);

  test(`${name}.push() accepts a blob twice`, async () => {
    await using opened = await open();
    await opened.store.push(BLOB, streamOf(BYTES));
    await opened.store.push(BLOB, streamOf(BYTES));
    expect(Buffer.compare(await read(opened.store, BLOB), BYTES)).toBe(0);
  });

  test(`${name}.push() accepts an empty blob`, async () => {
    await using opened = await open();
    const empty = descriptorOf(new Uint8Array());
    await opened.store.push(empty, streamOf(new Uint8Array()));
    expect((await read(opened.store, empty)).byteLength).toBe(0);
  });

  const flipped = new Uint8Array(BYTES);
  flipped[1_000_000] = (flipped[1_000_000] ?? 0) ^ 1;
  test.each([
    ["a flipped bit", flipped],
    ["a missing end", BYTES.subarray(0, BYTES.byteLength - 1)],
    ["bytes too many", Buffer.concat([BYTES, Buffer.from("more")])],
    ["nothing at all", new Uint8Array()],
  ])(`${name}.push() stores nothing from a body with %s`, async (_what, wrong) => {
    await using opened = await open();
    const pushed = opened.store.push(BLOB, streamOf(wrong));
    await expect(pushed).rejects.toMatchObject({ code: "corrupt" });
    expect(await opened.store.has(BLOB)).toBe(false);
  });

  test(`${name}.push() stores nothing when the body fails half way`, async () => {
    await using opened = await open();
    let pulls = 0;
    const failing = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (pulls++ > 2) controller.error(new Error("the source broke"));
        else controller.enqueue(BYTES.subarray(0, 1000));
      },
    });
    await expect(opened.store.push(BLOB, failing)).rejects.toThrow("the source broke");
    expect(await opened.store.has(BLOB)).toBe(false);
  });

  test(`${name}.push() stops and stores nothing when it is cancelled half way`, async () => {
    await using opened = await open();
    const controller = new AbortController();
    let pulls = 0;
    const hanging = new ReadableStream<Uint8Array>({
      pull(out) {
        if (pulls++ < 2) return out.enqueue(BYTES.subarray(0, 1000));
        controller.abort();
        return new Promise(() => {});
      },
    });
    const pushed = opened.store.push(BLOB, hanging, { signal: controller.signal });
    await expect(pushed).rejects.toMatchObject({ code: "cancelled" });
    expect(await opened.store.has(BLOB)).toBe(false);
  });
}
