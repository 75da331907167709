/**
 * Converts a whole image: layers side by side on all cores, each blob sent as soon as it is ready, the bootstrap last.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { type Digest, digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { type Progress, silent } from "../base/progress.ts";
import type { Fetcher } from "../content/content.ts";
import type { Image, Layer } from "../image/load.ts";
import type { MediaFamily } from "./manifest.ts";
import type { PackedLayer } from "./pack-layer.ts";
import { PackingThreads } from "./packing-threads.ts";
import { type PublishOptions, publishImage, pushBlob, type Target } from "./publish.ts";
import { type ConvertReport, type LayerReport, secondsSince, totals } from "./report.ts";
import { WorkDirectory } from "./work-directory.ts";

export interface Source {
  readonly store: Fetcher;
  readonly image: Image;
  /** As it is to be recorded in the target; nothing that differs from machine to machine. */
  readonly reference?: string;
}

export interface ConvertOptions extends PublishOptions {
  /** Default OCI, also for Docker's images. */
  readonly family?: MediaFamily;
  /** Parent of the work directory; by default the system's for temporary files. */
  readonly workDirectory?: string;
  /** Layers at a time; by default one a core. */
  readonly concurrency?: number;
  readonly progress?: Progress;
}

interface Converted {
  readonly layer: PackedLayer;
  readonly report: LayerReport;
}

/** @throws corrupt, unsupported; nothing is named in the target before everything is there */
export async function convertImage(
  source: Source,
  target: Target,
  options: ConvertOptions,
): Promise<ConvertReport> {
  const start = performance.now();
  const converted = await convertLayers(source, target, options);
  const { manifest, config, descriptor } = source.image;
  const { reference } = source;
  const { manifest: made, bootstrap } = await publishImage(
    converted.map(({ layer }) => layer),
    {
      family: options.family ?? "oci",
      config,
      source: { digest: descriptor.digest, ...(reference === undefined ? {} : { reference }) },
      ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
    },
    target,
    options,
  );
  const layers = converted.map(({ report }) => report);
  return {
    sourceDigest: descriptor.digest,
    targetDigest: made.digest,
    copied: false,
    layers,
    bootstrap,
    ...totals(layers, bootstrap),
    seconds: secondsSince(start),
  };
}

/** One result a layer of the manifest. A layer that occurs twice is converted once. */
async function convertLayers(
  source: Source,
  target: Target,
  options: ConvertOptions,
): Promise<readonly Converted[]> {
  const { layers } = source.image;
  for (const layer of layers) assertReadable(layer);
  // The first failure stops the other layers.
  const failed = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal;
  await using work = await WorkDirectory.create(options.workDirectory);
  await using packing = new PackingThreads(options.concurrency ?? availableParallelism());
  const context = { source, target, options: { ...options, signal }, work, packing };
  const running = new Map<Digest, Promise<Converted>>();
  const results = layers.map((layer) => {
    const { digest } = layer.descriptor;
    const result = running.get(digest) ?? convertLayer(layer, context);
    running.set(digest, result);
    result.catch((error) => failed.abort(error));
    return result;
  });
  try {
    return await Promise.all(results);
  } finally {
    await Promise.allSettled(results);
  }
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
}

async function convertLayer({ descriptor: layer, diffId }: Layer, context: LayerContext): Promise<Converted> {
  const { source, target, options, work, packing } = context;
  const { compressor, digester, chunkSize, signal } = options;
  const hex = digestHex(layer.digest);
  const task = (options.progress ?? silent).task(`layer ${hex.slice(0, 12)}`, layer.size);
  let start = performance.now();
  const packed = await packing.pack({
    compressor,
    digester,
    chunkSize,
    signal,
    diffId,
    path: work.file(hex),
    what: `layer "${layer.digest}"`,
    open: () => {
      start = performance.now();
      return source.store.fetch(layer, { signal });
    },
    onProgress: (bytes) => task.advance(bytes),
  });
  const packSeconds = secondsSince(start);
  start = performance.now();
  const pushed = await pushBlob(target, packed, signal);
  task.finish(pushed ? "done" : "already there");
  const report: LayerReport = {
    sourceDigest: layer.digest,
    sourceSize: layer.size,
    tarSize: packed.tarSize,
    entries: packed.entries,
    chunks: packed.file.info?.chunkCount ?? 0,
    digest: packed.file.digest,
    size: packed.file.size,
    pushed,
    packSeconds,
    pushSeconds: secondsSince(start),
  };
  return { layer: packed, report };
}
