/**
 * Brings a converted image into its target: blobs as they get ready, then bootstrap, config, manifest and name. What
 * the target has already is not sent again.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import type { ByteString } from "../base/byte-string.ts";
import type { Digest } from "../base/digest.ts";
import { corrupt, mayPass } from "../base/error.ts";
import type { ImageStore } from "../content/content.ts";
import { streamFile } from "../content/files.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { checkImage, type FsVersion, openImage } from "../rafs/image.ts";
import { type BootstrapFile, type BootstrapLayer, bootstrapLayer } from "./bootstrap-layer.ts";
import type { ConversionPlaces, Dictionaries, ProvidedBlob } from "./dictionaries.ts";
import {
  blobDescriptor,
  bootstrapDescriptor,
  type ConvertedParts,
  convertedConfig,
  convertedManifest,
  type Document,
  type MediaFamily,
} from "./manifest.ts";
import { type MergeOptions, mergeIntoBootstrap } from "./merge.ts";
import type { PackedContent } from "./packer.ts";
import type { BootstrapReport } from "./report.ts";

export interface Target {
  readonly store: ImageStore;
  /** Tag; without one the store's default. */
  readonly reference?: string | undefined;
  /** The image gets no name: an index will refer to it. */
  readonly untagged?: boolean;
}

/** A transfer that broke off is made again from its start, this often in all. */
const ATTEMPTS = 3;

/** False when it was there already. */
export async function pushOnce(
  store: ImageStore,
  descriptor: Descriptor,
  body: () => ReadableStream<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const options = signal === undefined ? {} : { signal };
  if (await store.has(descriptor, options)) return false;
  for (let attempt = 1; ; attempt++) {
    try {
      await store.push(descriptor, body(), options);
      return true;
    } catch (error) {
      if (attempt === ATTEMPTS || !mayPass(error)) throw error;
    }
  }
}

/** Sends a blob file and removes it: the work directory holds only what is under way. */
export async function pushBlob(
  target: Target,
  layer: PackedContent,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { path, size } = layer.file;
  const body = (): ReadableStream<Uint8Array> => streamFile(path, { start: 0, end: size }, signal);
  const pushed = await pushOnce(target.store, blobDescriptor(layer.file), body, signal);
  await rm(path, { force: true });
  return pushed;
}

/** Everything of a converted image but its blobs. */
export interface AssembledImage {
  readonly family: MediaFamily;
  readonly fsVersion: FsVersion;
  /** Those that chunk dictionaries brought; they are in the target. */
  readonly dictionaryBlobs: readonly ProvidedBlob[];
  /** What was to be fetched first and is not there. */
  readonly unmatched?: readonly ByteString[];
  readonly bootstrap: BootstrapLayer;
  /** Bytes of `image.boot`. */
  readonly bootstrapSize: number;
  readonly config: Document;
  readonly manifest: Document;
}

export interface AssembleOptions extends Omit<MergeOptions, "dictionary"> {
  readonly dictionaries?: Dictionaries | undefined;
}

/** @param layers one a source layer, lowest first; the same one may occur twice */
export async function assembleImage(
  layers: readonly PackedContent[],
  parts: Omit<ConvertedParts, "blobs" | "bootstrap" | "dictionaryBlobs" | "fsVersion">,
  places: ConversionPlaces,
  options: AssembleOptions,
): Promise<AssembledImage> {
  const { dictionaries, ...format } = options;
  const dictionary = dictionaries?.lookup;
  const { fsVersion = 6 } = options;
  const { bootstrap: image, unmatched } = await mergeIntoBootstrap(layers, {
    ...format,
    ...(dictionary && { dictionary }),
  });
  const dictionaryBlobs =
    dictionaries === undefined ? [] : await provideBlobs(image, layers, dictionaries, places);
  const bootstrap = bootstrapLayer(image, chunkInfoFiles(layers));
  const blobs = layers.map((layer) => layer.file);
  const whole: ConvertedParts = {
    ...parts,
    fsVersion,
    blobs,
    dictionaryBlobs: dictionaryBlobs.map(({ layer }) => layer),
    bootstrap,
  };
  const config = convertedConfig(whole);
  const manifest = convertedManifest(whole, config.descriptor);
  const { family } = parts;
  return {
    family,
    fsVersion,
    dictionaryBlobs,
    unmatched,
    bootstrap,
    bootstrapSize: image.byteLength,
    config,
    manifest,
  };
}

/** Blobs that the image uses and none of its layers is. */
async function provideBlobs(
  image: Uint8Array,
  layers: readonly PackedContent[],
  dictionaries: Dictionaries,
  places: ConversionPlaces,
): Promise<ProvidedBlob[]> {
  // Dictionaries can contradict each other, or themselves.
  const [violation] = await checkImage(image);
  if (violation !== undefined)
    throw corrupt(`Cannot use the chunk dictionaries: ${violation.path}: ${violation.message}`);
  const own = new Set(layers.map(({ blob }) => blob.id));
  const provided = new Map<Digest, ProvidedBlob>();
  for (const blob of openImage(image).blobs) {
    if (own.has(blob.id)) continue;
    const found = await dictionaries.provide(blob, places);
    provided.set(found.layer.digest, found);
  }
  return [...provided.values()];
}

/** Sends all the rest, the name last. The blobs are in the target already. */
export async function publishImage(
  image: AssembledImage,
  target: Target,
  signal: AbortSignal | undefined,
): Promise<BootstrapReport> {
  const { store, reference } = target;
  const { bootstrap, config, manifest } = image;
  const dictionaryBlobs = image.dictionaryBlobs.map((blob) => blob.layer);
  const layer = bootstrapDescriptor({ ...image, dictionaryBlobs });
  const pushed = await pushOnce(store, layer, () => streamOf(bootstrap.bytes), signal);
  for (const { descriptor, bytes } of [config, manifest])
    await pushOnce(store, descriptor, () => streamOf(bytes), signal);
  if (target.untagged !== true)
    await store.tag(manifest.descriptor, reference, signal === undefined ? {} : { signal });
  return { digest: layer.digest, size: layer.size, uncompressedSize: image.bootstrapSize, pushed };
}

function chunkInfoFiles(layers: readonly PackedContent[]): BootstrapFile[] {
  const files = new Map<string, Uint8Array>();
  for (const { blob, file } of layers)
    if (file.chunkInfo !== undefined) files.set(`${blob.id}.blob.meta`, file.chunkInfo);
  return [...files].map(([name, bytes]) => ({ name, bytes }));
}
