/**
 * Writes an image anew whose start needs one blob: the chunks that a trace names are copied, in the trace's order, into
 * a blob of their own that a node reads first and in one stream. All other data stays in the blobs where it was.
 *
 * The same form as the reference's `optimize` makes: the blob has feature 0x400, is the last one before the bootstrap,
 * and the bootstrap layer's annotation names it.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import { type Progress, silent } from "../base/progress.ts";
import { BlobWriter } from "../blob/blob-writer.ts";
import { type Trace, tracedChunks } from "../blob/trace.ts";
import { copyBlob } from "../image/copy-blob.ts";
import type { ImageLocation } from "../image/location.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { openStore } from "../image/open.ts";
import { originalLayers } from "../image/original-layers.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { Bootstrap } from "../rafs/bootstrap.ts";
import { hasExternalBlobs } from "../rafs/external.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { prefetchPaths } from "../rafs/prefetch-table.ts";
import { writeBootstrap } from "../rafs/writer.ts";
import { type ChunkRef, type Directory, directory } from "../tree/tree.ts";
import { visits } from "../tree/walk.ts";
import { optimizedImage } from "./optimized-image.ts";
import type { PackedContent } from "./packer.ts";
import { publishImage, pushBlob, type Target } from "./publish.ts";
import { type BootstrapReport, secondsSince } from "./report.ts";
import { WorkDirectory } from "./work-directory.ts";

export interface OptimizeOptions {
  readonly trace: Trace;
  /** Parent of the work directory; by default the system's for temporary files. */
  readonly workDirectory?: string;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

export interface OptimizeRequest extends OptimizeOptions, Omit<ImageLocation, "blobs" | "backend"> {
  /** As `openStore` takes it. */
  readonly target: string;
}

export interface OptimizeReport {
  readonly sourceDigest: string;
  readonly targetDigest: string;
  /** The blob that is read first. */
  readonly hot: { readonly digest: string; readonly size: number; readonly chunks: number };
  readonly bootstrap: BootstrapReport;
  /** Blobs of the source that the target did not have, and their bytes. */
  readonly copied: { readonly blobs: number; readonly bytes: number };
  readonly seconds: number;
}

/** Of what comes from no tar. */
const ORIGIN = { tarOffset: 0, wholeFile: false };
/** Blobs under way at once. */
const COPIES = 3;

/** Opens source and target. @throws as `optimizeImage`, and what opening them throws */
export async function optimize(request: OptimizeRequest): Promise<OptimizeReport> {
  await using image = await NydusImage.open(request);
  const { store, reference } = await openStore(request.target, { ...request, create: true });
  // Closing an archive writes it.
  await using _store = store;
  return await optimizeImage(image, { store, reference }, request);
}

/** @throws usage when the trace names nothing of the image, unsupported for kinds of image that cannot be changed */
async function optimizeImage(
  image: NydusImage,
  target: Target,
  options: OptimizeOptions,
): Promise<OptimizeReport> {
  const start = performance.now();
  const { signal = new AbortController().signal } = options;
  const bootstrap = changeable(image);
  const parts = image.image;
  if (parts === undefined)
    throw new NydusError("usage", `Cannot optimize "${image.name}": it is a bootstrap without an image`);
  const chunks = await hotChunks(image, options.trace, signal);
  await using work = await WorkDirectory.create(options.workDirectory);
  const hot = await packHot(image, chunks, work.file("hot"), options);
  const originals = await originalLayers(image.fetcher, parts.manifest, { signal });
  const layers = [...parts.manifest.layers.slice(0, -1), ...originals];
  const copied = await copyLayers(image, layers, target, options);
  const written = rewritten(image, bootstrap, hot);
  const optimized = await optimizedImage(image.fetcher, parts, hot.content.file, written, signal);
  await pushBlob(target, hot.content, signal);
  const report = await publishImage(optimized, target, signal);
  const { digest, size } = hot.content.file;
  return {
    sourceDigest: parts.descriptor.digest,
    targetDigest: optimized.manifest.descriptor.digest,
    hot: { digest, size, chunks: hot.content.file.info?.chunkCount ?? 0 },
    bootstrap: report,
    copied,
    seconds: secondsSince(start),
  };
}

function changeable({ name, bootstrap }: NydusImage): Bootstrap {
  const refuse = (state: string): never => {
    throw new NydusError("unsupported", `Cannot optimize "${name}": ${state}`);
  };
  if (bootstrap.version === 5) return refuse("it is RAFS v5; convert the original image again");
  if (hasExternalBlobs(bootstrap)) return refuse("its blobs are external files");
  if (bootstrap.superblock.tarfs)
    return refuse("its files lie in tars; convert the original image otherwise");
  // A copy of some of its chunks in the clear would undo the encryption.
  if (bootstrap.blobs.some(({ cipher }) => cipher !== undefined)) return refuse("its data is encrypted");
  return bootstrap;
}

/** Chunks of the image's tree that the trace touches, in its order. */
async function hotChunks(image: NydusImage, trace: Trace, signal: AbortSignal): Promise<ChunkRef[]> {
  const maps = await image.chunkMaps(signal);
  const byAddress = new Map(maps.map(({ blobId }) => [blobId, new Map<number, ChunkRef>()]));
  for (const visit of visits(image.root))
    if (visit.kind === "enter" && visit.node.kind === "file")
      for (const chunk of visit.node.chunks)
        byAddress.get(chunk.blob.id)?.set(chunk.uncompressedOffset, chunk);
  const found = tracedChunks(trace, maps).flatMap(({ blob, chunk }) => {
    const map = maps[blob];
    const address = map?.uncompressedOffset[chunk];
    return address === undefined ? [] : (byAddress.get(map?.blobId ?? "")?.get(address) ?? []);
  });
  if (found.length > 0) return found;
  throw new NydusError(
    "usage",
    `Cannot optimize "${image.name}": the trace names nothing of it; record one with nydus-tool mount --record`,
  );
}

interface HotBlob {
  readonly content: PackedContent;
  /** From where a chunk was to where it is. */
  readonly moved: ReadonlyMap<ChunkRef, ChunkRef>;
}

/** Each chunk is verified on its way. */
async function packHot(
  image: NydusImage,
  chunks: readonly ChunkRef[],
  path: string,
  { progress = silent, signal }: OptimizeOptions,
): Promise<HotBlob> {
  const { compressor, digester, chunkSize } = image.bootstrap.superblock;
  // Images whose data is in gzip layers say gzip, which is not for new blobs.
  const used = compressor === "gzip" ? "zstd" : compressor;
  using writer = new BlobWriter(path, { compressor: used, hasher: image.hasher });
  const moved = new Map<ChunkRef, ChunkRef>();
  const total = chunks.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
  const task = progress.task("what a start reads", total);
  let next = 0;
  for await (const data of image.chunks(chunks, signal === undefined ? {} : { signal })) {
    if (writer.full) await writer.room();
    const chunk = chunks[next++];
    // The writer keeps the bytes until they are compressed; the reader may use its buffer again.
    if (chunk !== undefined) moved.set(chunk, writer.add(Uint8Array.from(data), ORIGIN));
    task.advance(data.byteLength);
  }
  // As a layer, the blob adds nothing to the ones below it.
  const tree = directory(image.root.attributes);
  const own = { chunkSize, compressor: used, digester, blobs: new Map() };
  const file = await writer.finish(() => writeBootstrap(tree, own));
  task.finish();
  return { content: { tree, blob: writer.blob, file }, moved };
}

/** The bootstrap of the same tree with the hot chunks elsewhere. */
function rewritten(image: NydusImage, bootstrap: Bootstrap, { content, moved }: HotBlob): Uint8Array {
  const { blob: hotBlob, file } = content;
  moveChunks(image.root, moved);
  const infos = new Map(bootstrap.blobs.map((info) => [info.id, asOrdinary(info)]));
  const paths = prefetchPaths(bootstrap);
  return writeBootstrap(image.root, {
    ...bootstrap.superblock,
    hasXattr: "always",
    blobs: (blob) => {
      const info = blob === hotBlob ? file.info : infos.get(blob.id);
      if (info === undefined)
        throw new NydusError("internal", `Cannot optimize: nothing is known about blob ${blob.id}`);
      return blob === hotBlob ? { ...info, features: info.features | BLOB_FEATURES.separatedPrefetch } : info;
    },
    ...(paths.length === 0 ? {} : { prefetch: paths }),
  });
}

/** A blob that was the hot one of an earlier trace is one like others now. */
function asOrdinary(info: BlobInfo): BlobInfo {
  return { ...info, features: info.features & ~BLOB_FEATURES.separatedPrefetch };
}

function moveChunks(root: Directory, moved: ReadonlyMap<ChunkRef, ChunkRef>): void {
  for (const visit of visits(root)) {
    if (visit.kind !== "enter" || visit.node.kind !== "file" || visit.first !== undefined) continue;
    const file: { chunks: readonly ChunkRef[] } = visit.node;
    file.chunks = file.chunks.map((chunk) => moved.get(chunk) ?? chunk);
  }
}

async function copyLayers(
  image: NydusImage,
  layers: readonly Descriptor[],
  target: Target,
  { progress = silent, signal = new AbortController().signal }: OptimizeOptions,
): Promise<OptimizeReport["copied"]> {
  const limiter = new Limiter(COPIES);
  const distinct = new Map(layers.map((layer) => [layer.digest, layer]));
  const sizes = await Promise.all(
    [...distinct.values()].map((layer) =>
      limiter.run(async () => {
        const task = progress.task(layer.digest.slice("sha256:".length, "sha256:".length + 12), layer.size);
        const how = await copyBlob(layer, image.fetcher, target.store, { signal, task });
        return how === "sent" ? layer.size : undefined;
      }),
    ),
  );
  const sent = sizes.filter((size) => size !== undefined);
  return { blobs: sent.length, bytes: sent.reduce((sum, size) => sum + size, 0) };
}
