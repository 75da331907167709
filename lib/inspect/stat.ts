/**
 * Where the bytes of images go: how much files have, how much of it is different, how much is stored; by layer, by
 * kind of entry, and what several images share.
 *
 * @module
 */
import type { NydusImage } from "../image/nydus-image.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import { type ChunkMap, chunkDigest } from "../rafs/chunk-map.ts";
import type { Node } from "../tree/tree.ts";
import { visits } from "../tree/walk.ts";

export interface KindStat {
  /** Hard links counted each time. */
  readonly names: number;
  readonly inodes: number;
  /** Of file data. */
  readonly bytes: number;
}

export interface ChunksStat {
  readonly count: number;
  /** Uncompressed. */
  readonly bytes: number;
}

export interface StoredStat extends ChunksStat {
  /** Bytes as stored; what chunks share is counted once. */
  readonly stored: number;
}

export interface BlobStat {
  /** Hex digest. */
  readonly id: string;
  /** Position of its layer in the manifest, from 1; undefined for dictionary blobs and bootstrap files. */
  readonly layer?: number;
  /** Bytes of the whole blob as stored. */
  readonly size: number;
  /** Chunks in it, used or not. 0 for a layer that has no data. */
  readonly chunks: number;
  /** Chunks that the image uses. */
  readonly used: StoredStat;
  /** Bytes of file data that come out of it, repetitions counted each time. */
  readonly fileBytes: number;
}

export interface ImageStat {
  readonly name: string;
  /** Bytes of the bootstrap as files are looked up in it. */
  readonly bootstrapSize: number;
  /** Bytes of everything stored: blobs, original layers that are referred to, and the bootstrap's layer. */
  readonly stored: number;
  readonly kinds: Readonly<Partial<Record<Node["kind"], KindStat>>>;
  /** As files refer to them. */
  readonly referenced: ChunksStat;
  /** Each chunk once. */
  readonly distinct: StoredStat;
  /** `referenced` for each byte of `distinct`; 1 = nothing is repeated. */
  readonly dedup: number;
  /** Bytes of `distinct` for each stored one; 1 = nothing is compressed. */
  readonly compression: number;
  /** By layer: in the order of the manifest, then others. */
  readonly blobs: readonly BlobStat[];
}

/** Several images in one registry or cache. */
export interface TogetherStat {
  /** Sum of what each image stores by itself. */
  readonly alone: number;
  /** Bytes stored when each blob is there once. */
  readonly stored: number;
  /** Different contents, wherever they are. */
  readonly contents: ChunksStat;
  /** The same content again in other blobs: what a chunk dictionary could save. */
  readonly repeated: StoredStat;
}

export interface StatReport {
  readonly images: readonly ImageStat[];
  /** Of two images or more. */
  readonly together?: TogetherStat;
}

/** @throws what reading the tables of their blobs throws; most images need none */
export async function statImages(images: readonly NydusImage[], signal?: AbortSignal): Promise<StatReport> {
  const stats: ImageStat[] = [];
  const shared = new Together();
  for (const image of images) {
    const maps = await image.chunkMaps(signal);
    const stat = statOf(image, maps);
    stats.push(stat);
    shared.add(stat, maps);
  }
  return { images: stats, ...(images.length > 1 ? { together: shared.result() } : {}) };
}

function statOf(image: NydusImage, maps: readonly ChunkMap[]): ImageStat {
  const { kinds, referenced, bytesByBlob } = countTree(image);
  const blobs = blobStats(image, maps, bytesByBlob);
  const distinct = sum(blobs.map(({ used }) => used));
  const layerSize = image.image?.manifest.layers.at(-1)?.size;
  const bootstrapSize = image.bootstrap.bytes.byteLength;
  return {
    name: image.name,
    bootstrapSize,
    stored: blobs.reduce((total, { size }) => total + size, layerSize ?? bootstrapSize),
    kinds,
    referenced,
    distinct,
    dedup: ratio(referenced.bytes, distinct.bytes),
    compression: ratio(distinct.bytes, distinct.stored),
    blobs,
  };
}

function ratio(more: number, less: number): number {
  return less === 0 ? 1 : more / less;
}

function sum(parts: readonly StoredStat[]): StoredStat {
  const total = { count: 0, bytes: 0, stored: 0 };
  for (const { count, bytes, stored } of parts) {
    total.count += count;
    total.bytes += bytes;
    total.stored += stored;
  }
  return total;
}

interface TreeCounts {
  readonly kinds: Partial<Record<Node["kind"], KindStat>>;
  readonly referenced: ChunksStat;
  readonly bytesByBlob: ReadonlyMap<string, number>;
}

function countTree({ root }: NydusImage): TreeCounts {
  const kinds: Partial<Record<Node["kind"], KindStat>> = {};
  const referenced = { count: 0, bytes: 0 };
  const bytesByBlob = new Map<string, number>();
  for (const visit of visits(root)) {
    if (visit.kind === "leave") continue;
    const { node, first } = visit;
    const size = node.kind === "file" && first === undefined ? node.size : 0;
    const { names, inodes, bytes } = kinds[node.kind] ?? { names: 0, inodes: 0, bytes: 0 };
    kinds[node.kind] = {
      names: names + 1,
      inodes: inodes + (first === undefined ? 1 : 0),
      bytes: bytes + size,
    };
    if (node.kind !== "file" || first !== undefined) continue;
    referenced.count += node.chunks.length;
    referenced.bytes += size;
    for (const { blob, uncompressedSize } of node.chunks)
      bytesByBlob.set(blob.id, (bytesByBlob.get(blob.id) ?? 0) + uncompressedSize);
  }
  return { kinds, referenced, bytesByBlob };
}

function blobStats(
  { image, bootstrap }: NydusImage,
  maps: readonly ChunkMap[],
  bytesByBlob: ReadonlyMap<string, number>,
): BlobStat[] {
  const known = new Map(bootstrap.blobs.map((blob, i) => [blob.id, { blob, map: maps[i] }]));
  const layers = (image?.manifest.layers.slice(0, -1) ?? []).map(({ digest, size, annotations }, i) => {
    const own = digest.slice("sha256:".length);
    // The data may be in an original layer, which this one only describes.
    const original = annotations?.[ANNOTATION.nydusRef]?.slice("sha256:".length);
    return { id: original ?? own, layer: i + 1, size, isReference: original !== undefined };
  });
  // An image may have one layer twice; it is stored once.
  const distinct = [...new Map(layers.toReversed().map((layer) => [layer.id, layer])).values()].toReversed();
  const stats = distinct.map(({ id, layer, size, isReference }) => {
    const data = isReference ? (known.get(id)?.blob.compressedSize ?? 0) : 0;
    return { ...blobStat(id, size + data), layer };
  });
  const named = new Set(distinct.map(({ id }) => id));
  const others = bootstrap.blobs.filter(({ id }) => !named.has(id));
  return [...stats, ...others.map(({ id, compressedSize }) => blobStat(id, compressedSize))];

  function blobStat(id: string, size: number): BlobStat {
    const { blob, map } = known.get(id) ?? {};
    const used = map === undefined ? { count: 0, bytes: 0, stored: 0 } : usedOf(map);
    return { id, size, chunks: blob?.chunkCount ?? 0, used, fileBytes: bytesByBlob.get(id) ?? 0 };
  }
}

function usedOf(map: ChunkMap): StoredStat {
  const { count, uncompressedLength, compressedOffset, compressedLength } = map;
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  order.sort((a, b) => (compressedOffset[a] ?? 0) - (compressedOffset[b] ?? 0));
  let [stored, end] = [0, 0];
  for (const i of order) {
    const start = compressedOffset[i] ?? 0;
    const stop = start + (compressedLength[i] ?? 0);
    stored += Math.max(0, stop - Math.max(start, end));
    end = Math.max(end, stop);
  }
  return { count, bytes: uncompressedLength.reduce((total, length) => total + length, 0), stored };
}

class Together {
  #alone = 0;
  #bootstraps = 0;
  readonly #blobs = new Map<string, number>();
  /** By blob and place. */
  readonly #chunks = new Set<string>();
  readonly #contents = new Set<string>();
  readonly #different = { count: 0, bytes: 0 };
  readonly #repeated = { count: 0, bytes: 0, stored: 0 };

  add({ stored, blobs }: ImageStat, maps: readonly ChunkMap[]): void {
    this.#alone += stored;
    this.#bootstraps += blobs.reduce((left, { size }) => left - size, stored);
    for (const { id, size } of blobs) this.#blobs.set(id, size);
    for (const map of maps) this.#addChunks(map);
  }

  #addChunks(map: ChunkMap): void {
    for (let i = 0; i < map.count; i++) {
      const place = `${map.blobId}:${map.uncompressedOffset[i]}`;
      if (this.#chunks.has(place)) continue;
      this.#chunks.add(place);
      const content = `${map.digester}:${Buffer.from(chunkDigest(map, i)).toString("latin1")}`;
      const isNew = !this.#contents.has(content);
      this.#contents.add(content);
      const into = isNew ? this.#different : this.#repeated;
      into.count++;
      into.bytes += map.uncompressedLength[i] ?? 0;
      // Of a chunk in a unit there is no telling; its share is taken.
      if (!isNew) this.#repeated.stored += storedShare(map, i);
    }
  }

  result(): TogetherStat {
    const blobs = [...this.#blobs.values()].reduce((total, size) => total + size, 0);
    return {
      alone: this.#alone,
      stored: this.#bootstraps + blobs,
      contents: this.#different,
      repeated: this.#repeated,
    };
  }
}

function storedShare({ units, compressedLength, uncompressedLength }: ChunkMap, i: number): number {
  const stored = compressedLength[i] ?? 0;
  const unit = units?.units[units.unitOf[i] ?? -1];
  return unit === undefined ? stored : Math.round((stored * (uncompressedLength[i] ?? 0)) / unit.size);
}
