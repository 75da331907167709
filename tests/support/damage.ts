/**
 * Small whole images of each kind, damaged byte by byte and cut off at every place, and what may come of that: an error
 * that says what is wrong, or exactly the bytes that were stored. Nothing else.
 *
 * @module
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chunkHasher, digestHex, digestOf } from "../../lib/base/digest.ts";
import { NydusError } from "../../lib/base/error.ts";
import { ChunkPlaces, readChunks } from "../../lib/blob/chunk-content.ts";
import { readLayerBootstrap } from "../../lib/blob/layer-bootstrap.ts";
import { loadChunkMaps } from "../../lib/blob/load-chunk-maps.ts";
import type { Fetcher } from "../../lib/content/content.ts";
import { checkRange, streamOf } from "../../lib/content/verified.ts";
import { mergeIntoBootstrap } from "../../lib/convert/merge.ts";
import { packLayer } from "../../lib/convert/pack-layer.ts";
import type { PackFormat } from "../../lib/convert/packer.ts";
import { checkBootstrap } from "../../lib/rafs/check.ts";
import { externalSample } from "../../lib/rafs/external.test-support.ts";
import { checkImage, chunkAddress, openImage, readTree } from "../../lib/rafs/image.ts";
import { erofsBootstrap } from "../../lib/rafs/v5/erofs.ts";
import type { Directory, RegularFile } from "../../lib/tree/tree.ts";
import type { Random } from "./random.ts";
import { type TarItem, tarOf } from "./tar-builder.ts";

/** An image in memory. */
export interface Sample {
  readonly bootstrap: Uint8Array;
  /** The layer's blob, with all its sections. */
  readonly blob: Uint8Array;
  /** What chunks are read from: the blob, or the original layer. */
  readonly data: Uint8Array;
  /** The layer's own bootstrap, which the blob holds. */
  readonly layer: Uint8Array;
  /** By hex digest: what data comes from. */
  readonly stored: ReadonlyMap<string, Uint8Array>;
  /** By path: the content of every regular file. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Of tarfs and external files, which cannot tell one stretch of the data from another: all that may be read. */
  readonly tar?: Uint8Array;
}

export type SampleFormat = Partial<PackFormat> & {
  readonly ociRef?: boolean;
  /** The layer is compressed; with `ociRef` it always is. */
  readonly gzip?: boolean;
  /** Its data is somebody else's file: there is no blob of ours. */
  readonly external?: boolean;
};

export const KINDS: readonly (readonly [kind: string, format: SampleFormat])[] = [
  ["v6", {}],
  ["v6 with lz4", { compressor: "lz4_block" }],
  ["v6 with batches", { batchSize: 4096 }],
  ["v6 encrypted, with batches", { batchSize: 4096, encrypt: true }],
  ["v6 of OCI layers", { ociRef: true }],
  ["v6 over a plain tar", { tarfs: true, compressor: "none" }],
  ["v6 over a gzip layer", { tarfs: true, compressor: "none", gzip: true }],
  ["v6 of an external file", { external: true }],
  ["v5", { fsVersion: 5 }],
];

const CHUNK_SIZE = 4096;
const DEFAULTS: PackFormat = { compressor: "zstd", digester: "sha256", chunkSize: CHUNK_SIZE };

function items(random: Random): TarItem[] {
  const noise = (size: number): Uint8Array => Uint8Array.from({ length: size }, () => random.below(256));
  const text = (size: number): Uint8Array => Buffer.alloc(size, "words that repeat ");
  const xattrs = new Map([
    ["user.a", noise(5)],
    ["trusted.b", noise(0)],
  ]);
  return [
    { path: "d/", type: "dir", mtime: 1_700_000_000, xattrs },
    { path: "d/empty", type: "file" },
    { path: "d/noise", type: "file", data: noise(700), xattrs },
    { path: "d/several", type: "file", data: Buffer.concat([text(6000), noise(3000)]), mode: 0o4755 },
    { path: "d/same", type: "hardlink", target: "d/several" },
    { path: "large", type: "file", data: Buffer.concat([noise(3 * CHUNK_SIZE), text(100)]) },
    { path: "link", type: "symlink", target: "d/several" },
    { path: "null", type: "char", major: 1, minor: 3 },
    { path: "pipe", type: "fifo" },
    ...Array.from(
      { length: 5 },
      (_, i): TarItem => ({ path: `small${i}`, type: "file", data: text(300 + i) }),
    ),
  ];
}

async function makeExternalSample(random: Random): Promise<Sample> {
  const files = items(random).flatMap(({ path, data }): [string, Uint8Array][] =>
    data === undefined ? [] : [[path.replaceAll("/", "-"), data]],
  );
  const { bootstrap, data, id } = await externalSample(new Map(files));
  const paths = files.map(([path, bytes]): [string, Uint8Array] => [`/${path}`, bytes]);
  const nothing = new Uint8Array();
  const stored = new Map([[id, data]]);
  return { bootstrap, blob: nothing, data, layer: nothing, stored, files: new Map(paths), tar: data };
}

export async function makeSample(random: Random, format: SampleFormat): Promise<Sample> {
  if (format.external === true) return await makeExternalSample(random);
  const { ociRef = false, gzip = ociRef, ...rest } = format;
  const keepsLayer = ociRef || format.tarfs === true;
  const tar = tarOf(items(random)) as Uint8Array<ArrayBuffer>;
  const layer = gzip ? Bun.gzipSync(tar) : tar;
  const original = { mediaType: "", digest: digestOf(layer), size: layer.byteLength };
  const place = mkdtempSync(join(tmpdir(), "damage-"));
  try {
    const options = { ...DEFAULTS, ...rest };
    const path = join(place, "blob");
    const packing = {
      ...options,
      path,
      what: "a layer",
      diffId: digestOf(tar),
      ...(keepsLayer ? { original } : {}),
    };
    const packed = await packLayer(streamOf(layer), packing);
    const blob = readFileSync(path);
    const { bootstrap } = await mergeIntoBootstrap([packed], options);
    const stored = new Map([
      [digestHex(packed.file.digest), new Uint8Array(blob)],
      [digestHex(original.digest), layer],
    ]);
    const files = new Map<string, Uint8Array>();
    for await (const [file, content] of contents(bootstrap, fetcherOf(stored)))
      if (content !== undefined) files.set(file, content);
    const [own = blob, layerBytes = layer] = stored.values();
    const data = keepsLayer ? layerBytes : own;
    const descriptor = { mediaType: "", digest: packed.file.digest, size: packed.file.size };
    const inBlob = await readLayerBootstrap(fetcherOf(stored), descriptor);
    const found = { bootstrap, blob: own, data, layer: inBlob ?? new Uint8Array(), stored, files };
    return { ...found, ...(format.tarfs === true ? { tar } : {}) };
  } finally {
    rmSync(place, { recursive: true });
  }
}

export function fetcherOf(stored: ReadonlyMap<string, Uint8Array>): Fetcher {
  return {
    async sizeOf(digest) {
      return stored.get(digestHex(digest))?.byteLength;
    },
    async fetch({ digest }, { range } = {}) {
      const bytes = stored.get(digestHex(digest));
      if (bytes === undefined) throw new NydusError("not_found", `Cannot read "${digest}": it is not there`);
      if (range === undefined) return streamOf(bytes);
      checkRange(range, bytes.byteLength, digest, "memory");
      return streamOf(bytes.subarray(range.start, range.end));
    },
  };
}

/** Paths with what the files hold; nothing for those that could not be read. @throws NydusError */
async function* contents(
  bootstrap: Uint8Array,
  fetcher: Fetcher,
  directory?: string,
): AsyncGenerator<[path: string, content: Uint8Array | undefined]> {
  const image = openImage(bootstrap);
  const maps = await loadChunkMaps(image, { fetcher, ...(directory === undefined ? {} : { directory }) });
  const places = new ChunkPlaces(maps, (chunk) => chunkAddress(image, chunk));
  const hasher = await chunkHasher(image.superblock.digester);
  for (const [path, file] of regularFiles(readTree(image))) {
    const parts: Uint8Array[] = [];
    try {
      for await (const part of readChunks(places.findAll(file.chunks), hasher, { fetcher })) parts.push(part);
      yield [path, Buffer.concat(parts)];
    } catch (error) {
      if (!(error instanceof NydusError)) throw error;
      yield [path, undefined];
    }
  }
}

function* regularFiles(dir: Directory, path = ""): Generator<[path: string, file: RegularFile]> {
  for (const [name, node] of dir.entries) {
    if (node.kind === "directory") yield* regularFiles(node, `${path}/${name}`);
    else if (node.kind === "file") yield [`${path}/${name}`, node];
  }
}

/** What a driver does with a checked bootstrap. @throws for anything that must not happen */
function serve(bootstrap: Uint8Array): void {
  const image = openImage(bootstrap);
  const waiting = [image.rootNid];
  for (let nid = waiting.pop(); nid !== undefined; nid = waiting.pop()) {
    for (const entry of image.readdir(nid)) {
      if (image.lookup(nid, entry.name) !== entry.nid && entry.name !== "." && entry.name !== "..")
        throw new Error(`"${entry.name}" is listed and not found`);
      if (entry.name === "." || entry.name === "..") continue;
      const { size } = image.inode(entry.nid);
      image.xattrs(entry.nid);
      if (entry.type === "directory") waiting.push(entry.nid);
      else if (entry.type === "symlink") image.readlink(entry.nid);
      else if (entry.type === "file") {
        const found = image.extents(entry.nid, 0, size).reduce((sum, { length }) => sum + length, 0);
        if (found !== size) throw new Error(`"${entry.name}" has ${found} of ${size} bytes`);
      }
    }
  }
  if (image.version === 5 && checkBootstrap(erofsBootstrap(image)).length > 0)
    throw new Error("the bootstrap for the kernel is wrong");
}

export type Outcome = "refused" | "same";

/**
 * @param directory where `<id>.blob.meta` may lie
 * @returns "same" when all could be read and was right. @throws for anything that must not happen
 */
export async function outcome(
  sample: Sample,
  bootstrap: Uint8Array,
  stored: ReadonlyMap<string, Uint8Array>,
  directory?: string,
): Promise<Outcome> {
  const violations = await checkImage(bootstrap);
  if (violations.length > 0) return "refused";
  serve(bootstrap);
  let found: Outcome = "same";
  try {
    for await (const [path, content] of contents(bootstrap, fetcherOf(stored), directory)) {
      if (content === undefined) found = "refused";
      const wanted = sample.files.get(path);
      // A name or a size may be another one now: then it is another file.
      if (
        content !== undefined &&
        wanted?.byteLength === content.byteLength &&
        Buffer.compare(wanted, content) !== 0 &&
        !isOutOf(sample.tar, content)
      )
        throw new Error(`${path} has wrong bytes`);
    }
    return found;
  } catch (error) {
    if (error instanceof NydusError) return "refused";
    throw error;
  }
}

/** Whether each chunk of a file is a stretch of the tar. */
function isOutOf(tar: Uint8Array | undefined, content: Uint8Array): boolean {
  if (tar === undefined) return false;
  for (let at = 0; at < content.byteLength; at += CHUNK_SIZE)
    if (
      !Buffer.from(tar.buffer, tar.byteOffset, tar.byteLength).includes(content.subarray(at, at + CHUNK_SIZE))
    )
      return false;
  return true;
}

/** What a byte becomes: its bits flipped one by one, and the two ends. */
const VALUES: readonly ((byte: number) => number)[] = [
  ...Array.from({ length: 8 }, (_, bit) => (byte: number) => byte ^ (1 << bit)),
  () => 0,
  () => 0xff,
];

export interface MutationOptions {
  /** The first byte to change. */
  readonly from?: number;
  /** One in so many of the bytes, at random and in one way; without it all in all ways. */
  readonly oneIn?: number;
}

/** Between structures lie long stretches of zeros. */
const ONE_ZERO_IN = 20;

/** Copies with one byte changed. */
export function* mutations(
  bytes: Uint8Array,
  random: Random,
  { from = 0, oneIn }: MutationOptions = {},
): Generator<Uint8Array> {
  for (let at = from; at < bytes.byteLength; at++) {
    const byte = bytes[at] ?? 0;
    if (oneIn !== undefined && random.below(byte === 0 ? oneIn * ONE_ZERO_IN : oneIn) !== 0) continue;
    const ways = oneIn === undefined ? VALUES : [VALUES[random.below(VALUES.length)] ?? (() => 0)];
    for (const way of ways) {
      if (way(byte) === byte) continue;
      const changed = bytes.slice();
      changed[at] = way(byte);
      yield changed;
    }
  }
}

/** The first bytes only, cut at every record. */
export function* truncations(bytes: Uint8Array, record: number): Generator<Uint8Array> {
  for (let size = 0; size < bytes.byteLength; size += record) yield bytes.slice(0, size);
}

/** A sample whose compression information lies beside the bootstrap, and nowhere else. */
export class BesideBootstrap implements Disposable {
  readonly #sample: Sample;
  readonly #directory = mkdtempSync(join(tmpdir(), "damage-"));
  readonly #data: ReadonlyMap<string, Uint8Array>;
  readonly #path: string;
  /** Uncompressed: entries, units and their dictionaries, padding, header. */
  readonly info: Uint8Array;

  private constructor(sample: Sample, directory: string, name: string) {
    this.#sample = sample;
    this.#path = join(this.#directory, name);
    this.info = new Uint8Array(readFileSync(join(directory, name)));
    this.#data = new Map([...sample.stored].map(([hex, bytes]) => [hex, withoutInfo(sample, bytes)]));
  }

  static async of(sample: Sample): Promise<BesideBootstrap> {
    const keep = mkdtempSync(join(tmpdir(), "damage-"));
    try {
      await loadChunkMaps(openImage(sample.bootstrap), { fetcher: fetcherOf(sample.stored), keep });
      const [name = ""] = readdirSync(keep);
      return new BesideBootstrap(sample, keep, name);
    } finally {
      rmSync(keep, { recursive: true });
    }
  }

  async outcome(info: Uint8Array): Promise<Outcome> {
    writeFileSync(this.#path, info);
    return await outcome(this.#sample, this.#sample.bootstrap, this.#data, this.#directory);
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}

/** With zeros in place of the blob's own copy. */
function withoutInfo({ bootstrap, blob }: Sample, bytes: Uint8Array): Uint8Array {
  if (Buffer.compare(bytes, blob) !== 0) return bytes;
  const image = openImage(bootstrap);
  const [info] = image.version === 6 ? image.blobs : [];
  const copy = bytes.slice();
  if (info !== undefined) copy.fill(0, info.ciOffset, info.ciOffset + info.ciCompressedSize);
  return copy;
}

/** With another blob in place of the one that has the sample's data. */
export function withBlob({ stored, data }: Sample, instead: Uint8Array): Map<string, Uint8Array> {
  return new Map([...stored].map(([hex, bytes]) => [hex, bytes === data ? instead : bytes]));
}

export async function outcomes(
  damaged: Iterable<Uint8Array>,
  judge: (bytes: Uint8Array) => Promise<Outcome>,
): Promise<Record<Outcome, number>> {
  const found = { refused: 0, same: 0 };
  for (const bytes of damaged) found[await judge(bytes)]++;
  return found;
}

/** What `readLayerBootstrap` makes of a damaged blob. @throws for anything but an error, nothing, or the true one */
export async function layerOutcome(sample: Sample, blob: Uint8Array): Promise<Outcome> {
  const descriptor = { mediaType: "", digest: digestOf(blob), size: blob.byteLength };
  const fetcher = fetcherOf(new Map([[digestHex(descriptor.digest), blob]]));
  try {
    const found = await readLayerBootstrap(fetcher, descriptor);
    if (found === undefined) return "refused";
    // Without a table of contents nothing vouches for it but the check of the bootstrap itself.
    const violations = await checkImage(found);
    return violations.length > 0 || Buffer.compare(found, sample.layer) !== 0 ? "refused" : "same";
  } catch (error) {
    if (error instanceof NydusError) return "refused";
    throw error;
  }
}

/** Where chunk data ends in a blob, and what tells about it begins. */
export function dataEnd(blob: Uint8Array): number {
  return Math.max(0, Buffer.from(blob).indexOf("image.blob\0"));
}
