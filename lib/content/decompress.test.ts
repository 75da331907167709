import { expect, test } from "vitest";
import { NydusError } from "../base/error.ts";
import { sampleBytes } from "./contract.test-support.ts";
import { decompressed, sniffed } from "./decompress.ts";

const TAR = Buffer.concat([sampleBytes(700_000), Buffer.alloc(700_000)]);
const HALVES = [TAR.subarray(0, 600_000), TAR.subarray(600_000)] as const;
const gzip = (bytes: Uint8Array): Uint8Array => Bun.gzipSync(Buffer.from(bytes));
const zstd = (bytes: Uint8Array): Uint8Array => Bun.zstdCompressSync(Buffer.from(bytes));
/** RFC 8878 3.1.2: a frame of anything, to be passed over. */
const SKIPPABLE = Buffer.from("502a4d1804000000deadbeef", "hex");

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

async function expand(bytes: Uint8Array, size = 10_000): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(decompressed(inPieces(bytes, size), "the layer")));
}

test.each([
  ["a plain tar", TAR],
  ["gzip", gzip(TAR)],
  ["gzip in two members", Buffer.concat(HALVES.map(gzip))],
  ["zstd", zstd(TAR)],
  ["zstd in two frames", Buffer.concat(HALVES.map(zstd))],
  ["zstd after a skippable frame", Buffer.concat([SKIPPABLE, zstd(TAR)])],
])("decompressed() gives the tar out of %s", async (_what, stored) => {
  for (const size of [1_000, 1_000_000]) expect(Buffer.compare(await expand(stored, size), TAR)).toBe(0);
});

test("decompressed() finds out what it is from single bytes", async () => {
  const little = Buffer.from("a little");
  expect(await expand(gzip(little), 1)).toEqual(little);
  expect(await expand(zstd(little), 1)).toEqual(little);
  expect(await expand(little, 1)).toEqual(little);
  expect(await expand(Buffer.alloc(0))).toEqual(Buffer.alloc(0));
});

async function codeOf(expanding: Promise<Uint8Array>): Promise<string> {
  return expanding.then(
    () => "no error",
    (error: { code: string }) => error.code,
  );
}

test.each([
  ["gzip", gzip(TAR)],
  ["zstd", zstd(TAR)],
  ["the second of two gzip members", Buffer.concat(HALVES.map(gzip))],
  ["the second of two zstd frames", Buffer.concat(HALVES.map(zstd))],
])("decompressed() fails with corrupt when %s is cut short", async (_what, stored) => {
  const { byteLength } = stored;
  for (const end of [byteLength - 1, byteLength - 5, byteLength - 30, 400_000])
    expect(await codeOf(expand(stored.subarray(0, end)))).toBe("corrupt");
});

test.each([
  ["gzip", gzip(TAR)],
  ["zstd", zstd(TAR)],
])("decompressed() fails with corrupt when the structure of %s is damaged", async (_what, stored) => {
  const damaged = Buffer.from(stored);
  damaged.fill(0xff, stored.byteLength - 60);
  expect(await codeOf(expand(damaged))).toBe("corrupt");
});

test.each([
  ["xz", "fd377a585a0000"],
  ["bzip2", "425a6839314159"],
])("decompressed() names %s as unsupported", async (name, hex) => {
  const expanding = expand(Buffer.from(hex, "hex"));
  await expect(expanding).rejects.toMatchObject({ code: "unsupported" });
  await expect(expanding).rejects.toThrow(`Cannot read the layer: it is compressed by ${name}`);
});

test("decompressed() passes on what the source failed with", async () => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield gzip(TAR).subarray(0, 100_000);
    throw new NydusError("denied", "Cannot go on: not allowed");
  }
  await expect(Array.fromAsync(decompressed(failing(), "it"))).rejects.toMatchObject({ code: "denied" });
});

test("decompressed() lets the source go when it is left half way", async () => {
  let closed = false;
  async function* source(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield TAR.subarray(0, 1000);
    } finally {
      closed = true;
    }
  }
  for await (const _piece of decompressed(source(), "it")) break;
  expect(closed).toBe(true);
});

test("sniffed() and decompressed() end a source that they do not read on", async () => {
  let ended = 0;
  async function* source(head: string): AsyncGenerator<Uint8Array> {
    try {
      yield Buffer.from(head, "hex");
      yield TAR;
    } finally {
      ended++;
    }
  }
  const { kind, whole } = await sniffed(source("1f8b08000000"));
  await whole.return();
  expect([kind, ended]).toEqual(["gzip", 1]);
  const bzip2 = Array.fromAsync(decompressed(source("425a68000000"), "the layer"));
  await expect(bzip2).rejects.toMatchObject({ code: "unsupported" });
  expect(ended).toBe(2);
});
