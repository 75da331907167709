/**
 * An image: a manifest picked for a platform, its config and its layers, checked against each other.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import type { ImageStore } from "../content/content.ts";
import { readBlob } from "../content/read.ts";
import { CONFIG_SIZE_LIMIT, type ImageConfig, parseConfig } from "../oci/config.ts";
import type { Descriptor, Platform } from "../oci/descriptor.ts";
import { type Index, MANIFEST_SIZE_LIMIT, type Manifest, parseDocument } from "../oci/manifest.ts";
import { ANNOTATION, ARTIFACT } from "../oci/media-types.ts";
import { formatPlatform, hostPlatform, manifestsFor, platformsMatch } from "../oci/platform.ts";
import { type FoundManifest, nydusReferrer } from "./referring.ts";

export interface Layer {
  readonly descriptor: Descriptor;
  /** Digest of the uncompressed tar (of the blob itself for Nydus data layers). */
  readonly diffId: Digest;
}

export interface Image {
  /** Of the manifest, not of an index it was picked from. */
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  readonly config: ImageConfig;
  readonly configBytes: Uint8Array;
  /** Lowest first. */
  readonly layers: readonly Layer[];
}

export interface LoadOptions {
  /** Default: this machine's. An image that is not in an index is taken whatever its platform, unless this is set. */
  readonly platform?: Platform;
  /** Which of two to take when an index holds an image both plain and as Nydus. Default: nydus. */
  readonly prefer?: "nydus" | "plain";
  /** In the place of an ordinary image, take a Nydus image that refers to it. */
  readonly referrers?: boolean;
  readonly signal?: AbortSignal;
}

/** @throws not_found, corrupt, and what the store throws */
export async function loadImage(
  store: ImageStore,
  reference: string | undefined,
  options: LoadOptions = {},
): Promise<Image> {
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  return await loadImageAt(store, await store.resolve(reference, signal), options);
}

/** @param root a manifest, or an index that an image is picked from */
export async function loadImageAt(
  store: ImageStore,
  root: Descriptor,
  options: LoadOptions = {},
): Promise<Image> {
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const picked = await pickManifest(store, root, options, 0);
  const { descriptor, manifest, bytes } = await preferReferrer(store, picked, options);
  const limits = { limit: CONFIG_SIZE_LIMIT, what: "the config", ...signal };
  const configBytes = await readBlob(store, manifest.config, limits);
  const config = parseConfig(configBytes, `the config of ${descriptor.digest}`);
  if (options.platform !== undefined && !platformsMatch(options.platform, config)) {
    throw notForPlatform(store, options.platform);
  }
  return {
    descriptor,
    manifest,
    manifestBytes: bytes,
    config,
    configBytes,
    layers: pairLayers(descriptor, manifest, config),
  };
}

type Picked = FoundManifest;

async function preferReferrer(store: ImageStore, picked: Picked, options: LoadOptions): Promise<Picked> {
  if (options.referrers !== true || isNydusImage(picked.manifest)) return picked;
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  return (await nydusReferrer(store, picked.descriptor.digest, signal)) ?? picked;
}

/** Indexes may hold indexes; two levels is more than anybody uses. */
const MAX_DEPTH = 4;

async function pickManifest(
  store: ImageStore,
  from: Descriptor,
  options: LoadOptions,
  depth: number,
): Promise<Picked> {
  const where = `manifest ${from.digest} of ${store.name}`;
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const bytes = await readBlob(store, from, { limit: MANIFEST_SIZE_LIMIT, what: "the manifest", ...signal });
  const document = parseDocument(bytes, from.mediaType, where);
  if (document.kind === "manifest") return { descriptor: from, manifest: document.manifest, bytes };
  if (depth === MAX_DEPTH) throw corrupt(`Cannot read ${where}: indexes are nested too deeply`);
  return await pickManifest(store, candidate(document.index, store, options), options, depth + 1);
}

function candidate(index: Index, store: ImageStore, options: LoadOptions): Descriptor {
  const { platform = hostPlatform(), prefer = "nydus" } = options;
  const all = manifestsFor(index.manifests, platform);
  const found = all.find((entry) => isNydusEntry(entry) === (prefer === "nydus")) ?? all[0];
  if (found !== undefined) return found;
  throw notForPlatform(store, platform);
}

/** How converters mark the Nydus form of an image in an index: now, and in earlier years. */
export function isNydusEntry({ artifactType, platform }: Descriptor): boolean {
  return (
    artifactType === ARTIFACT.nydusManifest ||
    platform?.["os.features"]?.includes("nydus.remoteimage.v1") === true
  );
}

function notForPlatform(store: ImageStore, platform: Platform): NydusError {
  return new NydusError(
    "not_found",
    `Cannot use an image of ${store.name}: it has none for ${formatPlatform(platform)}`,
  );
}

function pairLayers(descriptor: Descriptor, manifest: Manifest, config: ImageConfig): Layer[] {
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== manifest.layers.length) {
    throw corrupt(
      `Cannot use image ${descriptor.digest}: its manifest has ${manifest.layers.length} layers, its config ${diffIds.length}`,
    );
  }
  return manifest.layers.flatMap((layer, i) => {
    const diffId = diffIds[i];
    return diffId === undefined ? [] : [{ descriptor: layer, diffId }];
  });
}

/** Whether the last layer is a Nydus bootstrap. */
export function isNydusImage(manifest: Manifest): boolean {
  return manifest.layers.at(-1)?.annotations?.[ANNOTATION.nydusBootstrap] === "true";
}
