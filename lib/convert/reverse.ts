/**
 * A Nydus image becomes an ordinary OCI image again, whose layers unpack to the same tree. The layers are those that
 * the image was made of where they can be restored; otherwise all is one layer.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import { type Digest, Digester, digestFromHex } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import type { Progress } from "../base/progress.ts";
import { silent } from "../base/progress.ts";
import { HashedFile } from "../blob/hashed-file.ts";
import { streamFile } from "../content/files.ts";
import { streamOf } from "../content/verified.ts";
import type { ImageLocation } from "../image/location.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { openStore } from "../image/open.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { treeToTar } from "../unpack/tar.ts";
import { gzipped } from "./gzip.ts";
import type { MediaFamily } from "./manifest.ts";
import { pushOnce, type Target } from "./publish.ts";
import { type ConvertReport, type LayerReport, secondsSince } from "./report.ts";
import { type RestoredLayer, restoreLayers } from "./restore-layers.ts";
import { LAYER_TYPES, type ReversedLayer, reversedConfig, reversedManifest } from "./reversed-manifest.ts";
import { WorkDirectory } from "./work-directory.ts";

export interface ReverseOptions {
  /** Default OCI. */
  readonly family?: MediaFamily;
  /** Parent of the work directory; by default the system's for temporary files. */
  readonly workDirectory?: string;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

export interface ReverseRequest extends ReverseOptions, Omit<ImageLocation, "blobs" | "backend"> {
  /** As `openStore` takes it. */
  readonly target: string;
}

/** Opens source and target. @throws as `reverseImage`, and what opening them throws */
export async function reverse(request: ReverseRequest): Promise<ConvertReport> {
  await using image = await NydusImage.open(request);
  const { store, reference } = await openStore(request.target, { ...request, create: true });
  // Closing an archive writes it.
  await using _store = store;
  return await reverseImage(image, { store, reference }, request);
}

/** @throws corrupt when data is damaged, unsupported for kinds of image that are not served */
export async function reverseImage(
  image: NydusImage,
  target: Target,
  options: ReverseOptions = {},
): Promise<ConvertReport> {
  const start = performance.now();
  const { family = "oci", signal } = options;
  const { restored, squashed } = await restoredOrSquashed(image, signal);
  await using work = await WorkDirectory.create(options.workDirectory);
  const layers: ReversedLayer[] = [];
  const reports: LayerReport[] = [];
  for (const [i, layer] of restored.entries()) {
    const { report, ...made } = await reverseLayer(layer, { image, target, work, options, number: i });
    layers.push(made);
    reports.push(report);
  }
  const config = reversedConfig(image.image?.config, layers, family);
  const manifest = reversedManifest(image.image?.manifest, layers, config.descriptor, family);
  for (const { descriptor, bytes } of [config, manifest])
    await pushOnce(target.store, descriptor, () => streamOf(bytes), signal);
  await target.store.tag(manifest.descriptor, target.reference, signal === undefined ? {} : { signal });
  return {
    ...(image.image === undefined ? {} : { sourceDigest: image.image.descriptor.digest }),
    targetDigest: manifest.descriptor.digest,
    copied: false,
    layers: reports,
    sourceSize: image.image?.manifest.layers.reduce((sum, { size }) => sum + size, 0) ?? 0,
    targetSize: reports.reduce((sum, { size }) => sum + size, 0),
    pushedSize: reports.reduce((sum, { size, pushed }) => sum + (pushed ? size : 0), 0),
    ...(squashed === undefined ? {} : { squashed }),
    seconds: secondsSince(start),
  };
}

async function restoredOrSquashed(
  image: NydusImage,
  signal: AbortSignal | undefined,
): Promise<{ readonly restored: readonly RestoredLayer[]; readonly squashed?: string }> {
  try {
    return { restored: await restoreLayers(image, signal === undefined ? {} : { signal }) };
  } catch (error) {
    if (!isCode(error, "corrupt") && !isCode(error, "unsupported")) throw error;
    return { restored: [{ tree: image.root, maps: [] }], squashed: error.message };
  }
}

interface LayerContext {
  readonly image: NydusImage;
  readonly target: Target;
  readonly work: WorkDirectory;
  readonly options: ReverseOptions;
  readonly number: number;
}

async function reverseLayer(
  layer: RestoredLayer,
  { image, target, work, options, number }: LayerContext,
): Promise<ReversedLayer & { report: LayerReport }> {
  const { family = "oci", progress = silent, signal } = options;
  const start = performance.now();
  const task = progress.task(`layer ${number + 1}`);
  const path = work.file(`${number}`);
  let entries = 0;
  const onProgress = (count: number, bytes: number): void => {
    entries += count;
    task.advance(bytes);
  };
  const { diffId, digest, size, tarSize } = await writeLayer(layer, image, path, { onProgress, signal });
  const packSeconds = secondsSince(start);
  const descriptor: Descriptor = { mediaType: LAYER_TYPES[family], digest, size };
  const pushStart = performance.now();
  const body = () => streamFile(path, { start: 0, end: size }, signal);
  const pushed = await pushOnce(target.store, descriptor, body, signal);
  await rm(path, { force: true });
  task.finish(pushed ? "done" : "already there");
  const pushSeconds = secondsSince(pushStart);
  const report = { tarSize, entries, chunks: 0, digest, size, pushed, packSeconds, pushSeconds };
  return { descriptor, diffId, report };
}

interface WrittenLayer {
  readonly diffId: Digest;
  readonly tarSize: number;
  readonly digest: Digest;
  readonly size: number;
}

async function writeLayer(
  { tree, maps }: RestoredLayer,
  image: NydusImage,
  path: string,
  options: {
    readonly onProgress: (entries: number, bytes: number) => void;
    readonly signal: AbortSignal | undefined;
  },
): Promise<WrittenLayer> {
  const { onProgress, signal } = options;
  const readOptions = { maps, ...(signal === undefined ? {} : { signal }) };
  const tar = new Digester();
  const hashed = async function* (): AsyncGenerator<Uint8Array> {
    for await (const piece of treeToTar(tree, (wanted) => image.chunks(wanted, readOptions), {
      onProgress,
    })) {
      tar.update(piece);
      yield piece;
    }
  };
  using file = new HashedFile(path);
  for await (const piece of gzipped(hashed())) file.write(piece);
  const digest = digestFromHex(Buffer.from(file.digest()).toString("hex"));
  return { diffId: tar.finish(), tarSize: tar.size, digest, size: file.size };
}
