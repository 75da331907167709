/**
 * Converts an index: every image of it, or some, into one new index.
 *
 * @module
 */
import { digestOf } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { ImageStore } from "../content/content.ts";
import { readBlob } from "../content/read.ts";
import { streamOf } from "../content/verified.ts";
import { type Image, isNydusImage, loadImageAt } from "../image/load.ts";
import type { Descriptor, Platform } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import { formatPlatform, platformsMatch } from "../oci/platform.ts";
import { type ConvertOptions, convertImage } from "./image.ts";
import { pushOnce, type Target } from "./publish.ts";
import { type ConvertReport, secondsSince } from "./report.ts";

export interface IndexSource {
  readonly store: ImageStore;
  /** Of the index, or of a manifest that stands for itself. */
  readonly root: Descriptor;
  /** As it is to be recorded in the target. */
  readonly reference?: string;
}

/** One image leaves no index behind, as the reference's converter does it. */
export async function convertPlatforms(
  source: IndexSource,
  target: Target,
  wanted: "all" | readonly Platform[],
  options: ConvertOptions,
): Promise<ConvertReport> {
  const start = performance.now();
  const images = await imagesOf(source, wanted, options.signal);
  const [only] = images;
  if (only === undefined)
    throw new NydusError("not_found", `Cannot convert "${source.root.digest}": it has no image to convert`);
  const convert = (image: Image, to: Target) => convertImage({ ...source, image }, to, options);
  if (images.length === 1) return await convert(only.image, target);
  const reports: ConvertReport[] = [];
  const manifests: Descriptor[] = [];
  for (const { image, platform } of images) {
    const report = await convert(image, { ...target, untagged: true });
    reports.push({ ...report, platform: formatPlatform(platform) });
    manifests.push({ ...report.manifest, platform });
  }
  const index = indexOf(manifests, options);
  await pushOnce(target.store, index.descriptor, () => streamOf(index.bytes), options.signal);
  await target.store.tag(index.descriptor, target.reference, signalOf(options));
  const digests = { sourceDigest: source.root.digest, targetDigest: index.descriptor.digest };
  return { ...digests, ...summed(reports), seconds: secondsSince(start) };
}

interface PlatformImage {
  readonly image: Image;
  readonly platform: Platform;
}

/** What an earlier conversion added beside the originals is made anew from them. */
async function imagesOf(
  source: IndexSource,
  wanted: "all" | readonly Platform[],
  signal: AbortSignal | undefined,
): Promise<readonly PlatformImage[]> {
  const found: PlatformImage[] = [];
  for (const entry of await entriesOf(source, wanted, signal)) {
    const image = await loadImageAt(source.store, entry, signal === undefined ? {} : { signal });
    const { os, architecture } = image.config;
    if (!isNydusImage(image.manifest))
      found.push({ image, platform: entry.platform ?? { os, architecture } });
  }
  return found;
}

/** Attestations and other things that no machine runs say that their platform is unknown. */
function isRunnable({ platform }: Descriptor): boolean {
  return platform === undefined || (platform.os !== "unknown" && platform.architecture !== "unknown");
}

async function entriesOf(
  { store, root }: IndexSource,
  wanted: "all" | readonly Platform[],
  signal: AbortSignal | undefined,
): Promise<readonly Descriptor[]> {
  const limits = {
    limit: MANIFEST_SIZE_LIMIT,
    what: "the index",
    ...(signal === undefined ? {} : { signal }),
  };
  const bytes = await readBlob(store, root, limits);
  const document = parseDocument(bytes, root.mediaType, `"${root.digest}" of ${store.name}`);
  if (document.kind === "manifest") return [root];
  const entries = document.index.manifests.filter(isRunnable);
  if (wanted === "all") return entries;
  return wanted.map((platform) => {
    const found = entries.find(({ platform: have }) => have !== undefined && platformsMatch(platform, have));
    if (found !== undefined) return found;
    throw new NydusError(
      "not_found",
      `Cannot convert "${root.digest}": it has no image for ${formatPlatform(platform)}`,
    );
  });
}

function indexOf(
  manifests: readonly Descriptor[],
  { family }: ConvertOptions,
): { descriptor: Descriptor; bytes: Uint8Array } {
  const mediaType = family === "docker" ? MEDIA.dockerIndex : MEDIA.ociIndex;
  const bytes = new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType, manifests }));
  return { bytes, descriptor: { mediaType, digest: digestOf(bytes), size: bytes.byteLength } };
}

function summed(reports: readonly ConvertReport[]): Omit<ConvertReport, "targetDigest" | "seconds"> {
  const sum = (pick: (report: ConvertReport) => number): number =>
    reports.reduce((total, report) => total + pick(report), 0);
  return {
    copied: false,
    layers: reports.flatMap(({ layers }) => layers),
    images: reports,
    sourceSize: sum(({ sourceSize }) => sourceSize),
    targetSize: sum(({ targetSize }) => targetSize),
    pushedSize: sum(({ pushedSize }) => pushedSize),
  };
}

function signalOf({ signal }: ConvertOptions): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
