/**
 * Makes a chunk dictionary of several Nydus images: an image without programs, whose files are the chunks that those
 * have. It holds no data itself; its blobs are theirs.
 *
 * It keeps every rule of an ordinary image: one directory a blob, in it one file a chunk, named by its ordinal.
 *
 * @module
 */
import { byteStringOf } from "../base/byte-string.ts";
import { chunkHasher } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { ImageLocation } from "../image/location.ts";
import { emptyConfig } from "../oci/config.ts";
import { hostPlatform } from "../oci/platform.ts";
import { openImage, writeImage } from "../rafs/image.ts";
import { type Attributes, type BlobRef, type Directory, directory } from "../tree/tree.ts";
import { bootstrapLayer } from "./bootstrap-layer.ts";
import { Dictionaries, type ProvidedBlob } from "./dictionaries.ts";
import { convertedConfig, convertedManifest } from "./manifest.ts";
import { publishImage, type Target } from "./publish.ts";
import { type ConvertReport, dictionaryReport, secondsSince, totals } from "./report.ts";

export interface ChunkdictRequest extends Omit<ImageLocation, "location" | "blobs" | "backend"> {
  /** Nydus images, or bootstrap files. Where several have a chunk, the first one's is taken. */
  readonly sources: readonly string[];
  /** Take chunks that at least so many of the sources have. Default 1. */
  readonly minImages?: number;
}

export interface ChunkdictReport {
  readonly chunks: number;
  /** Hex ids. */
  readonly blobs: readonly string[];
}

const STEP = { created_by: "nydus-tool chunkdict generate", empty_layer: true };

/** A dictionary as a bootstrap file. @throws usage when the sources are too different */
export async function chunkdictBootstrap(
  request: ChunkdictRequest,
): Promise<{ bootstrap: Uint8Array; report: ChunkdictReport }> {
  await using dictionaries = await openSources(request);
  return await bootstrapOf(dictionaries);
}

/** A dictionary as an image, with all blobs that it refers to. */
export async function chunkdictImage(
  request: ChunkdictRequest,
  target: Target,
): Promise<ChunkdictReport & Pick<ConvertReport, "targetDigest" | "targetSize" | "pushedSize" | "seconds">> {
  const start = performance.now();
  const signal = request.signal ?? new AbortController().signal;
  await using dictionaries = await openSources(request);
  const { bootstrap, report } = await bootstrapOf(dictionaries);
  const provided: ProvidedBlob[] = [];
  for (const blob of openImage(bootstrap).blobs)
    provided.push(await dictionaries.provide(blob, { target: target.store, signal }));
  const layer = bootstrapLayer(bootstrap, []);
  const parts = {
    family: "oci",
    fsVersion: dictionaries.format.fsVersion,
    config: emptyConfig(request.platform ?? hostPlatform(), STEP),
    source: {},
    blobs: [],
    dictionaryBlobs: provided.map((blob) => blob.layer),
    bootstrap: layer,
  } as const;
  const config = convertedConfig(parts);
  const manifest = convertedManifest(parts, config.descriptor);
  const image = {
    ...parts,
    dictionaryBlobs: provided,
    bootstrapSize: bootstrap.byteLength,
    config,
    manifest,
  };
  const sent = await publishImage(image, target, signal);
  const { targetSize, pushedSize } = totals([], sent, provided);
  return {
    ...report,
    ...dictionaryReport(provided),
    targetDigest: manifest.descriptor.digest,
    targetSize,
    pushedSize,
    seconds: secondsSince(start),
  };
}

async function openSources({ sources, minImages, ...access }: ChunkdictRequest): Promise<Dictionaries> {
  if (minImages !== undefined && minImages > sources.length)
    throw new NydusError(
      "usage",
      `Cannot take chunks that ${minImages} images have: there are ${sources.length}`,
    );
  return await Dictionaries.open(sources, access, {}, minImages === undefined ? {} : { minImages });
}

async function bootstrapOf(
  dictionaries: Dictionaries,
): Promise<{ bootstrap: Uint8Array; report: ChunkdictReport }> {
  const { lookup, format } = dictionaries;
  const { fsVersion: version, digester, ...rest } = format;
  const { root, blobs } = treeOf(dictionaries);
  const bootstrap = writeImage(root, {
    ...rest,
    version,
    hasher: await chunkHasher(digester),
    blobs: (blob) => lookup.info(blob),
    prefetch: [],
    hasXattr: "always",
  });
  return { bootstrap, report: { chunks: lookup.size, blobs: [...blobs].map(({ id }) => id) } };
}

const FIXED = { uid: 0, gid: 0, mtime: 0, mtimeNs: 0, xattrs: new Map() } as const;
const FILE: Attributes = { ...FIXED, mode: 0o444 };
const DIRECTORY: Attributes = { ...FIXED, mode: 0o555 };

function treeOf({ lookup }: Dictionaries): { root: Directory; blobs: Iterable<BlobRef> } {
  const root = directory(DIRECTORY);
  const byBlob = new Map<BlobRef, Directory>();
  for (const chunk of lookup.chunks()) {
    const dir = byBlob.get(chunk.blob) ?? directory(DIRECTORY);
    byBlob.set(chunk.blob, dir);
    dir.entries.set(byteStringOf(String(chunk.index)), {
      kind: "file",
      attributes: FILE,
      size: chunk.uncompressedSize,
      chunks: [chunk],
    });
  }
  for (const [{ id }, dir] of byBlob) root.entries.set(byteStringOf(id), dir);
  return { root, blobs: byBlob.keys() };
}
