/**
 * Any container image becomes a Nydus image on this machine: a bootstrap, and what says where in the original layers
 * its chunks are. Layers with a table of contents need nothing but that table. Others are read once: gzip and plain
 * tars are indexed and stay the source of their data, and what cannot be entered in the middle (zstd) is packed into a
 * blob that is kept here.
 *
 * All of it lies in one directory, in a cache under the digest of the image's manifest, which vouches for every layer: so
 * it is made once.
 *
 * @module
 */
import { mkdir, rename } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { ByteString } from "../base/byte-string.ts";
import { digestHex } from "../base/digest.ts";
import { isCode, NydusError } from "../base/error.ts";
import { type Progress, silent } from "../base/progress.ts";
import type { Fetcher } from "../content/content.ts";
import { mergeIntoBootstrap } from "../convert/merge.ts";
import type { PackedContent } from "../convert/packer.ts";
import { PackingThreads } from "../convert/packing-threads.ts";
import { WorkDirectory } from "../convert/work-directory.ts";
import { type AdoptedImage, LAYER_BLOBS } from "../image/adopted.ts";
import type { Image, Layer } from "../image/load.ts";
import { makeAdopted, writeAdopted } from "./adopted-place.ts";
import { hasToc } from "./find-toc.ts";
import { readTocLayer } from "./toc-layer.ts";

export interface AdoptOptions {
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/** Of every layer, so that one image can be made of all kinds. */
const FORMAT = { chunkSize: 2 ** 20, digester: "sha256", compressor: "zstd" } as const;
/** Each layer that is indexed may take tens of megabytes. */
const MAX_LAYERS = 16;

/**
 * @param place a directory of its own; what is in it already is taken
 * @throws corrupt, unsupported for layers that are no container layers, and what the store throws
 */
export async function adoptImage(
  store: Fetcher,
  image: Image,
  place: string,
  options: AdoptOptions = {},
): Promise<AdoptedImage> {
  return await makeAdopted(place, `use image "${image.descriptor.digest}"`, async (work) => {
    await write(work, await readLayers(store, image, join(work, LAYER_BLOBS), options));
  });
}

/** For one look: what is made goes away with it. */
export async function adoptForNow(
  store: Fetcher,
  image: Image,
  options: AdoptOptions = {},
): Promise<AdoptedImage> {
  const work = await WorkDirectory.create();
  const dispose = async (): Promise<void> => work[Symbol.asyncDispose]();
  try {
    const adopted = await adoptImage(store, image, work.file("image"), options);
    return { ...adopted, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** A layer as a mount takes it, and how it came about. */
interface ReadLayer extends PackedContent {
  readonly format: string;
  readonly prefetch: readonly ByteString[];
}

async function readLayers(
  store: Fetcher,
  image: Image,
  blobs: string,
  { signal: given, progress = silent }: AdoptOptions,
): Promise<readonly ReadLayer[]> {
  const failed = new AbortController();
  const signal = given === undefined ? failed.signal : AbortSignal.any([given, failed.signal]);
  await mkdir(blobs, { mode: 0o700 });
  await using packing = new PackingThreads(Math.min(2 * availableParallelism(), MAX_LAYERS));
  // A layer that occurs twice is read once.
  const jobs = new Map<string, Promise<ReadLayer>>();
  for (const layer of image.layers) {
    const { digest } = layer.descriptor;
    if (jobs.has(digest)) continue;
    const job = readLayer(store, layer, { blobs, packing, signal, progress });
    job.catch((error) => failed.abort(error));
    jobs.set(digest, job);
  }
  const settled = await Promise.allSettled(jobs.values());
  if (failed.signal.aborted) throw failed.signal.reason;
  for (const result of settled) if (result.status === "rejected") throw result.reason;
  return await Promise.all(image.layers.flatMap(({ descriptor }) => jobs.get(descriptor.digest) ?? []));
}

interface Reading {
  readonly blobs: string;
  readonly packing: PackingThreads;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

async function readLayer(store: Fetcher, layer: Layer, reading: Reading): Promise<ReadLayer> {
  const { descriptor } = layer;
  if (descriptor.mediaType.endsWith("+encrypted"))
    throw new NydusError("unsupported", `Cannot use layer "${descriptor.digest}": it is encrypted`);
  if (!hasToc(descriptor)) return await indexLayer(store, layer, reading);
  const { signal } = reading;
  try {
    return await readTocLayer(store, descriptor, { chunkSize: FORMAT.chunkSize, signal });
  } catch (error) {
    // The tar itself tells what its table cannot.
    if (!isCode(error, "unsupported")) throw error;
    return await indexLayer(store, layer, reading);
  }
}

async function indexLayer(store: Fetcher, layer: Layer, reading: Reading): Promise<ReadLayer> {
  const { descriptor, diffId } = layer;
  const { signal, packing, blobs, progress } = reading;
  const hex = digestHex(descriptor.digest);
  const task = progress.task(`index ${hex.slice(0, 12)}`, descriptor.size);
  const packed = await packing.pack({
    ...FORMAT,
    signal,
    diffId,
    original: descriptor,
    path: join(blobs, `.${hex}`),
    what: `layer "${descriptor.digest}"`,
    open: () => store.fetch(descriptor, { signal }),
    onProgress: (bytes) => task.advance(bytes),
  });
  task.finish("done");
  await rename(packed.file.path, join(blobs, digestHex(packed.file.digest)));
  const indexed = packed.file.original !== undefined;
  return { ...packed, prefetch: [], format: indexed ? "OCI, indexed" : "OCI, packed" };
}

async function write(work: string, layers: readonly ReadLayer[]): Promise<void> {
  const prefetch = layers.flatMap((layer) => layer.prefetch);
  const { bootstrap } = await mergeIntoBootstrap(layers, { ...FORMAT, prefetch });
  const chunkInfos = layers.flatMap(({ file: { info, chunkInfo } }) =>
    info === undefined || chunkInfo === undefined ? [] : [[info.id, chunkInfo] as const],
  );
  const format = [...new Set(layers.map((layer) => layer.format))].sort().join(" + ");
  await writeAdopted(work, { bootstrap, format, chunkInfos: new Map(chunkInfos) });
}
