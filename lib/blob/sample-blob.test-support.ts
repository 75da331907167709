/** A small blob with known content, for tests of the reading side. */
import { type Compressor, compressChunk } from "../base/compression.ts";
import { digestHex, digestOf, sha256 } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { alignUp } from "../base/math.ts";
import { viewOf } from "../base/struct.ts";
import type { Fetcher } from "../content/content.ts";
import type { ChunkMap } from "../rafs/chunk-map.ts";
import { type ChunkInfo, ENTRY_SIZE, readChunkInfo } from "./compression-info.ts";

export interface SampleOptions {
  readonly chunks: number;
  /** Of each chunk, before compression; the last one is half as long. */
  readonly size: number;
  readonly compressor?: Compressor;
  readonly seed?: number;
}

export interface SampleBlob {
  readonly map: ChunkMap;
  readonly stored: Uint8Array;
  /** The whole uncompressed address space, gaps as zeros. */
  readonly content: Uint8Array;
}

function chunkContent(index: number, size: number, seed: number): Uint8Array {
  const words = Uint32Array.from(
    { length: Math.ceil(size / 4) },
    (_, i) => ((i >> 3) * 2654435761 + index * 97 + seed) >>> 0,
  );
  return new Uint8Array(words.buffer).slice(0, size);
}

export function sampleBlob(options: SampleOptions): Promise<SampleBlob> {
  const { chunks, size, compressor = "zstd", seed = 1 } = options;
  const pieces: Uint8Array[] = [];
  const contents: Uint8Array[] = [];
  const map = emptyMap(chunks, compressor);
  let [at, address] = [0, 0];
  for (let i = 0; i < chunks; i++) {
    const content = chunkContent(i, i === chunks - 1 ? Math.ceil(size / 2) : size, seed);
    const compressed = compressChunk(compressor, content);
    const stored = compressed ?? content;
    map.uncompressedOffset[i] = address;
    map.uncompressedLength[i] = content.byteLength;
    map.compressedOffset[i] = at;
    map.compressedLength[i] = stored.byteLength;
    map.compressed[i] = compressed === undefined ? 0 : 1;
    map.digests.set(sha256(content), i * 32);
    pieces.push(stored);
    contents.push(content);
    at += stored.byteLength;
    address += alignUp(content.byteLength, 4096);
  }
  const stored = Buffer.concat(pieces);
  const content = new Uint8Array(address);
  for (const [i, piece] of contents.entries()) content.set(piece, map.uncompressedOffset[i]);
  const blobId = digestHex(digestOf(stored));
  return Promise.resolve({
    map: { ...map, blobId, compressedSize: stored.byteLength, uncompressedSize: address },
    stored,
    content,
  });
}

function emptyMap(count: number, compressor: Compressor): ChunkMap {
  return {
    blobId: "",
    compressor,
    digester: "sha256",
    compressedSize: 0,
    uncompressedSize: 0,
    count,
    uncompressedOffset: new Float64Array(count),
    uncompressedLength: new Uint32Array(count),
    compressedOffset: new Float64Array(count),
    compressedLength: new Uint32Array(count),
    compressed: new Uint8Array(count),
    digests: new Uint8Array(count * 32),
  };
}

export interface CountingFetcher extends Fetcher {
  readonly ranges: { start: number; end: number }[];
  /** Changes what is sent, by request number from 0. */
  damage?: (bytes: Uint8Array, request: number) => Uint8Array;
  /** Resolves before each body is sent. */
  gate?: Promise<void>;
  /** Send the whole blob or nothing. */
  wholeOnly?: boolean;
  /** Of each request, whether it came because of damage. */
  readonly afterDamage: boolean[];
}

export function fetcherOf(stored: Uint8Array): CountingFetcher {
  const fetcher: CountingFetcher = {
    ranges: [],
    afterDamage: [],
    async fetch(_descriptor, options = {}) {
      if (fetcher.wholeOnly === true && options.partsOnly === true)
        throw new NydusError("unsupported", "Cannot read a part: there are none");
      fetcher.afterDamage.push(options.damaged !== undefined);
      const { start, end } = options.range ?? { start: 0, end: stored.byteLength };
      const request = fetcher.ranges.push({ start, end }) - 1;
      await fetcher.gate;
      const bytes = stored.slice(start, end);
      return new Blob([(fetcher.damage?.(bytes, request) ?? bytes) as Uint8Array<ArrayBuffer>]).stream();
    },
  };
  return fetcher;
}

/** The entries of compression information, version 1. */
export function chunkInfosOf(array: Uint8Array): ChunkInfo[] {
  const view = viewOf(array);
  return Array.from({ length: array.byteLength / ENTRY_SIZE }, (_, i) => readChunkInfo(view, i * ENTRY_SIZE));
}
