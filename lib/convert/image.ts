/**
 * Converts a whole image: layers side by side on all cores, then what a start reads is laid first, then blobs and
 * bootstrap are sent.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { type Digest, digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { type Progress, silent, type Task } from "../base/progress.ts";
import type { Fetcher } from "../content/content.ts";
import { copyBlob } from "../image/copy-blob.ts";
import type { Image, Layer } from "../image/load.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { Dictionaries } from "./dictionaries.ts";
import type { MediaFamily } from "./manifest.ts";
import type { MergeOptions } from "./merge.ts";
import type { PackedLayer } from "./pack-layer.ts";
import { packFormat } from "./packer.ts";
import { PackingThreads } from "./packing-threads.ts";
import { assembleImage, publishImage, pushBlob, type Target } from "./publish.ts";
import { type ConvertReport, type LayerReport, reportOfAssembly, secondsSince, totals } from "./report.ts";
import { layOutStart, mayBeRead, mayMove } from "./start/start-layout.ts";
import { WorkDirectory } from "./work-directory.ts";

export interface Source {
  readonly store: Fetcher;
  readonly image: Image;
  /** As it is to be recorded in the target; nothing that differs from machine to machine. */
  readonly reference?: string;
}

export interface ConvertOptions extends Omit<MergeOptions, "dictionary"> {
  /** Images whose chunks are not stored again. */
  readonly dictionaries?: Dictionaries | undefined;
  /** Leave data in the original layers, where they can be entered in the middle; the target gets them too. */
  readonly reference?: boolean;
  /** Called once all of the image is there; gives back what is the target then. */
  readonly published?: (manifest: Descriptor) => Promise<Descriptor>;
  /** The converted image refers to this one. */
  readonly subject?: Descriptor | undefined;
  readonly signal?: AbortSignal;
  /** Default OCI, also for Docker's images. */
  readonly family?: MediaFamily;
  /** Parent of the work directory; by default the system's for temporary files. */
  readonly workDirectory?: string;
  /** Layers at a time; by default two a core, so that none is idle while a layer waits, and at most 16. */
  readonly concurrency?: number;
  readonly progress?: Progress;
}

/** Each layer under way may take tens of megabytes. */
const MAX_LAYERS = 16;

/** @throws corrupt, unsupported; nothing is named in the target before everything is there */
export async function convertImage(
  source: Source,
  target: Target,
  options: ConvertOptions,
): Promise<ConvertReport & { readonly manifest: Descriptor }> {
  const start = performance.now();
  for (const layer of source.image.layers) assertReadable(layer);
  // The first failure stops the other layers.
  const failed = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal;
  await using work = await WorkDirectory.create(options.workDirectory);
  await using packing = new PackingThreads(
    options.concurrency ?? Math.min(2 * availableParallelism(), MAX_LAYERS),
  );
  const laid = Promise.withResolvers<Laid>();
  laid.promise.catch(() => {});
  const jobs = startLayers({
    source,
    target,
    options: { ...options, signal },
    work,
    packing,
    laid: laid.promise,
  });
  for (const { report } of jobs) report.catch((error) => failed.abort(error));
  try {
    const packed = await Promise.all(jobs.map((job) => job.packed));
    const { layers: ready, prefetch } = await layOutStart(packed, source.image.config.config, {
      ...options,
      ...(options.dictionaries === undefined ? {} : { dictionary: options.dictionaries.lookup }),
    });
    laid.resolve(new Map(packed.map((layer, i) => [layer, ready[i] ?? layer])));
    // Blobs are on their way to the target meanwhile.
    const places = { source: source.store, target: target.store, signal };
    const merging = { ...options, ...(prefetch === undefined ? {} : { prefetch }) };
    const image = await assembleImage(ready, partsOf(source, options), places, merging);
    const layers = await Promise.all(jobs.map((job) => job.report));
    const bootstrap = await publishImage(image, target, signal);
    const { descriptor } = image.manifest;
    const { digest: targetDigest } = (await options.published?.(descriptor)) ?? descriptor;
    return {
      sourceDigest: source.image.descriptor.digest,
      targetDigest,
      manifest: image.manifest.descriptor,
      copied: false,
      layers,
      bootstrap,
      ...reportOfAssembly(image),
      ...totals(layers, bootstrap, image.dictionaryBlobs),
      seconds: secondsSince(start),
    };
  } catch (error) {
    failed.abort(error);
    laid.reject(error);
    throw error;
  } finally {
    await Promise.allSettled(jobs.map((job) => job.report));
  }
}

function partsOf({ image, reference }: Source, options: ConvertOptions) {
  const { manifest, config, descriptor } = image;
  return {
    family: options.family ?? "oci",
    subject: options.subject,
    config,
    source: { digest: descriptor.digest, ...(reference === undefined ? {} : { reference }) },
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
  };
}

interface LayerJob {
  readonly packed: Promise<PackedLayer>;
  /** When the blob is in the target. */
  readonly report: Promise<LayerReport>;
}

/**
 * One job a layer of the manifest; a layer that occurs twice has one job. The largest start first, so that no long one
 * is left over at the end.
 */
function startLayers(context: LayerContext): readonly LayerJob[] {
  const { progress = silent } = context.options;
  const { layers } = context.source.image;
  const distinct = new Map(layers.map((layer) => [layer.descriptor.digest, layer]));
  const starts = [...distinct.values()].map((layer) => {
    const { digest, size } = layer.descriptor;
    return { layer, task: progress.task(`layer ${digestHex(digest).slice(0, 12)}`, size) };
  });
  starts.sort((a, b) => b.layer.descriptor.size - a.layer.descriptor.size);
  const jobs = new Map<Digest, LayerJob>();
  for (const { layer, task } of starts) jobs.set(layer.descriptor.digest, startLayer(layer, task, context));
  return layers.flatMap(({ descriptor }) => jobs.get(descriptor.digest) ?? []);
}

function assertReadable({ descriptor }: Layer): void {
  if (descriptor.mediaType.endsWith("+encrypted"))
    throw new NydusError("unsupported", `Cannot convert layer "${descriptor.digest}": it is encrypted`);
}

interface LayerContext {
  readonly source: Source;
  readonly target: Target;
  readonly options: ConvertOptions & { readonly signal: AbortSignal };
  readonly work: WorkDirectory;
  readonly packing: PackingThreads;
  readonly laid: Promise<Laid>;
}

/** What became of layers when what a start reads was laid first. */
type Laid = ReadonlyMap<PackedLayer, PackedLayer>;

function startLayer({ descriptor, diffId }: Layer, task: Task, context: LayerContext): LayerJob {
  const { source, options, work, packing } = context;
  const { dictionaries, signal } = options;
  const hex = digestHex(descriptor.digest);
  let start = performance.now();
  const packed = packing.pack({
    ...packFormat(options),
    ...(dictionaries === undefined ? {} : { dictionary: dictionaries.table }),
    signal,
    diffId,
    path: work.file(hex),
    ...(options.reference === true || options.tarfs === true ? { original: descriptor } : {}),
    what: `layer "${descriptor.digest}"`,
    open: () => {
      start = performance.now();
      return source.store.fetch(descriptor, { signal });
    },
    onProgress: (bytes) => task.advance(bytes),
  });
  const report = packed.then(async (unordered) => {
    const packSeconds = secondsSince(start);
    const { config } = source.image.config;
    const waits = mayMove(unordered, config, options) || mayBeRead(unordered, config, options);
    const layer = waits ? ((await context.laid).get(unordered) ?? unordered) : unordered;
    const pushStart = performance.now();
    const pushed = await pushBlob(context.target, layer, signal);
    const { original } = layer.file;
    const copied = original && (await copyBlob(original, source.store, context.target.store, { signal }));
    task.finish(pushed ? "done" : "already there");
    const times = { packSeconds, pushSeconds: secondsSince(pushStart) };
    return { ...reportOf(descriptor, layer), pushed, ...(copied && { original: copied }), ...times };
  });
  return { packed, report };
}

function reportOf(
  source: Descriptor,
  { tarSize, entries, file }: PackedLayer,
): Omit<LayerReport, "pushed" | "packSeconds" | "pushSeconds"> {
  return {
    sourceDigest: source.digest,
    sourceSize: source.size,
    tarSize,
    entries,
    chunks: file.info?.chunkCount ?? 0,
    digest: file.digest,
    size: file.size,
  };
}
