/**
 * Brings a converted image into its target: blobs as they get ready, then bootstrap, config, manifest and name. What
 * the target has already is not sent again.
 *
 * @module
 */
import { open, rm } from "node:fs/promises";
import type { ImageStore } from "../content/content.ts";
import { streamRange } from "../content/files.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type BootstrapFile, bootstrapLayer } from "./bootstrap-layer.ts";
import {
  blobDescriptor,
  bootstrapDescriptor,
  type ConvertedParts,
  convertedConfig,
  convertedManifest,
} from "./manifest.ts";
import { type MergeOptions, mergeIntoBootstrap } from "./merge.ts";
import type { PackedContent } from "./pack-layer.ts";
import type { BootstrapReport } from "./report.ts";

export interface Target {
  readonly store: ImageStore;
  /** Tag; without one the store's default. */
  readonly reference?: string | undefined;
}

/** False when it was there already. */
export async function pushOnce(
  store: ImageStore,
  descriptor: Descriptor,
  body: () => ReadableStream<Uint8Array> | Promise<ReadableStream<Uint8Array>>,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const options = signal === undefined ? {} : { signal };
  if (await store.has(descriptor, options)) return false;
  await store.push(descriptor, await body(), options);
  return true;
}

/** Sends a blob file and removes it: the work directory holds only what is under way. */
export async function pushBlob(
  target: Target,
  layer: PackedContent,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { path, size } = layer.file;
  const body = async (): Promise<ReadableStream<Uint8Array>> =>
    streamRange(await open(path, "r"), { start: 0, end: size }, path, {
      close: true,
      ...(signal === undefined ? {} : { signal }),
    });
  const pushed = await pushOnce(target.store, blobDescriptor(layer.file), body, signal);
  await rm(path, { force: true });
  return pushed;
}

export interface PublishOptions extends MergeOptions {
  readonly signal?: AbortSignal;
}

export interface Published {
  readonly manifest: Descriptor;
  readonly bootstrap: BootstrapReport;
}

/**
 * The rest of an image whose blobs are in the target.
 *
 * @param layers one a source layer, lowest first; the same one may occur twice
 */
export async function publishImage(
  layers: readonly PackedContent[],
  parts: Omit<ConvertedParts, "blobs" | "bootstrap">,
  target: Target,
  options: PublishOptions,
): Promise<Published> {
  const { signal } = options;
  const { store } = target;
  const image = mergeIntoBootstrap(layers, options);
  const bootstrap = bootstrapLayer(image, chunkInfoFiles(layers));
  const whole: ConvertedParts = { ...parts, blobs: layers.map((layer) => layer.file), bootstrap };
  const config = convertedConfig(whole);
  const manifest = convertedManifest(whole, config.descriptor);
  const pushed = await pushOnce(
    store,
    bootstrapDescriptor(bootstrap, parts.family),
    () => streamOf(bootstrap.bytes),
    signal,
  );
  await pushOnce(store, config.descriptor, () => streamOf(config.bytes), signal);
  await pushOnce(store, manifest.descriptor, () => streamOf(manifest.bytes), signal);
  await store.tag(manifest.descriptor, target.reference, signal === undefined ? {} : { signal });
  return {
    manifest: manifest.descriptor,
    bootstrap: {
      digest: bootstrap.digest,
      size: bootstrap.bytes.byteLength,
      uncompressedSize: image.byteLength,
      pushed,
    },
  };
}

function chunkInfoFiles(layers: readonly PackedContent[]): BootstrapFile[] {
  const files = new Map<string, Uint8Array>();
  for (const { blob, file } of layers)
    if (file.chunkInfo !== undefined) files.set(`${blob.id}.blob.meta`, file.chunkInfo);
  return [...files].map(([name, bytes]) => ({ name, bytes }));
}
