import { expect, test } from "vitest";
import { encryptXts } from "../base/xts.ts";
import type { BatchUnit, ChunkMap } from "../rafs/chunk-map.ts";
import { ChunkDecoder } from "./chunk-decoder.ts";

const cipher = { key: Uint8Array.from({ length: 32 }, (_, i) => i), iv: new Uint8Array(16) };

function inOneBatch(size: number, unit: Omit<BatchUnit, "kind">): ChunkMap {
  return {
    blobId: "0".repeat(64),
    compressor: "zstd",
    digester: "sha256",
    compressedSize: unit.storedSize,
    uncompressedSize: 4096,
    count: 1,
    uncompressedOffset: Float64Array.of(0),
    uncompressedLength: Uint32Array.of(size),
    compressedOffset: Float64Array.of(0),
    compressedLength: Uint32Array.of(unit.storedSize),
    compressed: Uint8Array.of(1),
    digests: new Uint8Array(32),
    units: { units: [{ kind: "batch", ...unit }], unitOf: Uint32Array.of(0), offsetIn: Uint32Array.of(0) },
    cipher,
  };
}

test.each([1, 15, 16, 17])(
  "a ChunkDecoder gives %i bytes out of an encrypted batch that is not compressed",
  (size) => {
    const content = Uint8Array.from({ length: size }, (_, i) => 200 + i);
    const stored = encryptXts(cipher.key, cipher.iv, content);
    const decoder = new ChunkDecoder(inOneBatch(size, { storedSize: stored.byteLength, size }));
    expect(Buffer.from(decoder.decode(0, stored))).toEqual(Buffer.from(content));
  },
);
