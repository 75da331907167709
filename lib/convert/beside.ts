/**
 * A converted image beside the one that it came from: in one index with it, or referring to it, so that whoever asks for
 * the one finds the other.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import type { ImageStore } from "../content/content.ts";
import { readBlob } from "../content/read.ts";
import { streamOf } from "../content/verified.ts";
import { copyParts } from "../image/copy.ts";
import { type Image, isNydusEntry } from "../image/load.ts";
import type { Descriptor, Platform } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { ARTIFACT, MEDIA } from "../oci/media-types.ts";
import { formatPlatform } from "../oci/platform.ts";
import { RegistryStore } from "../registry/store.ts";
import { type Document, document } from "./manifest.ts";
import { pushOnce, type Target } from "./publish.ts";

interface Options {
  readonly signal?: AbortSignal;
}

export interface SourceImage {
  readonly store: ImageStore;
  /** What the source's name stands for: a manifest or an index. */
  readonly root: Descriptor;
  readonly image: Image;
}

/**
 * Gives the target's name to an index of what the source's name stands for (it comes along) and the converted image.
 * Those that are read first come first: containerd takes the first that fits, and knows no Nydus images.
 *
 * @param converted its manifest is in the target, without a name
 */
export async function mergeIntoIndex(
  source: SourceImage,
  target: Target,
  converted: Descriptor,
  options: Options = {},
): Promise<Descriptor> {
  const platform = platformOf(source.image);
  const ordinary = (await entriesOf(source, options)).filter(
    (entry) => !isNydusEntry(entry) || name(entry.platform) !== name(platform),
  );
  for (const entry of ordinary) await copyParts(source.store, entry, target.store, options);
  const { mediaType, digest, size } = converted;
  const own: Descriptor = { mediaType, digest, size, platform, artifactType: ARTIFACT.nydusManifest };
  const index = indexOf([...ordinary, own]);
  await pushOnce(target.store, index.descriptor, () => streamOf(index.bytes), options.signal);
  await target.store.tag(index.descriptor, target.reference, options);
  return index.descriptor;
}

function indexOf(manifests: readonly Descriptor[]): Document {
  return document({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }, MEDIA.ociIndex);
}

function name(platform: Platform | undefined): string {
  return platform === undefined ? "" : formatPlatform(platform);
}

function platformOf({ config }: Image): Platform {
  const { os, architecture, variant } = config;
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

async function entriesOf(
  { store, root, image }: SourceImage,
  options: Options,
): Promise<readonly Descriptor[]> {
  const limits = { limit: MANIFEST_SIZE_LIMIT, what: "the manifest", ...options };
  const found = parseDocument(await readBlob(store, root, limits), root.mediaType, `"${root.digest}"`);
  if (found.kind === "index") return found.index.manifests;
  const { mediaType, digest, size } = root;
  return [{ mediaType, digest, size, platform: platformOf(image) }];
}

/** The subject of a manifest that refers to an image: no platform, as it is listed by its digest. */
export function subjectOf({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}

/** @throws usage when nobody could find it: the image that it refers to is not in the target */
export async function assertSubject(
  target: Target,
  subject: Descriptor,
  options: Options = {},
): Promise<void> {
  if (await target.store.has(subject, options)) return;
  throw new NydusError(
    "usage",
    `Cannot refer to image "${subject.digest}" from ${target.store.name}: it is not there; convert within its repository, or pull it there first`,
  );
}

/** Makes sure that the converted image is found from its subject: some registries do not look at manifests themselves. */
export async function announceReferrer(
  { store }: Target,
  subject: Descriptor,
  converted: Descriptor,
  options: Options = {},
): Promise<void> {
  if (!(store instanceof RegistryStore)) return;
  const limits = { limit: MANIFEST_SIZE_LIMIT, what: "the manifest", ...options };
  const bytes = await readBlob(store, converted, limits);
  const { mediaType, digest, size } = converted;
  const entry: Descriptor = { mediaType, digest, size, artifactType: MEDIA.ociConfig };
  await store.attach(subject.digest, entry, bytes, options);
}
