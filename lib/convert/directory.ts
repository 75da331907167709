/**
 * Converts a root file system on disk: an image of one layer.
 *
 * @module
 */
import { chunkHasher, type Digest, Digester } from "../base/digest.ts";
import { silent } from "../base/progress.ts";
import { emptyConfig } from "../oci/config.ts";
import type { Platform } from "../oci/descriptor.ts";
import { hostPlatform } from "../oci/platform.ts";
import { readDirectory } from "../tar/read-directory.ts";
import type { ConvertOptions } from "./image.ts";
import { blobWriter, type PackedContent, Packer } from "./packer.ts";
import { assembleImage, publishImage, pushBlob, type Target } from "./publish.ts";
import { type ConvertReport, type LayerReport, reportOfAssembly, secondsSince, totals } from "./report.ts";
import { WorkDirectory } from "./work-directory.ts";

export interface DirectoryOptions extends Omit<ConvertOptions, "concurrency"> {
  /** Default: this machine's. */
  readonly platform?: Platform;
}

export async function convertDirectory(
  root: string,
  target: Target,
  options: DirectoryOptions,
): Promise<ConvertReport> {
  const start = performance.now();
  const { layer, report } = await packAndPush(root, target, options);
  const step = { created_by: "nydus-tool convert", comment: "a directory" };
  const config = emptyConfig(options.platform ?? hostPlatform(), step);
  const parts = { family: options.family ?? "oci", config, source: {} };
  const places = { target: target.store, signal: options.signal ?? new AbortController().signal };
  const image = await assembleImage([layer], parts, places, options);
  const bootstrap = await publishImage(image, target, options.signal);
  return {
    targetDigest: image.manifest.descriptor.digest,
    copied: false,
    layers: [report],
    bootstrap,
    ...reportOfAssembly(image),
    ...totals([report], bootstrap, image.dictionaryBlobs),
    seconds: secondsSince(start),
  };
}

async function packAndPush(
  root: string,
  target: Target,
  options: DirectoryOptions,
): Promise<{ layer: PackedContent; report: LayerReport }> {
  const { dictionaries, signal } = options;
  const start = performance.now();
  const task = (options.progress ?? silent).task("directory");
  await using work = await WorkDirectory.create(options.workDirectory);
  const hasher = await chunkHasher(options.digester);
  const dictionary = dictionaries?.lookup;
  const secret = options.encrypt === true ? await contentDigest(root, signal) : undefined;
  const writer = blobWriter(work.file("blob"), options, { hasher, secret, dictionary });
  using packer = new Packer(writer, options, dictionary);
  let entries = 0;
  for await (const entry of readDirectory(root, signal === undefined ? {} : { signal })) {
    await packer.add(entry);
    task.advance(entry.size);
    entries++;
  }
  const layer = await packer.finish();
  const packSeconds = secondsSince(start);
  const pushStart = performance.now();
  const pushed = await pushBlob(target, layer, signal);
  task.finish(pushed ? "done" : "already there");
  const { digest, size, info } = layer.file;
  const chunks = info?.chunkCount ?? 0;
  const pushSeconds = secondsSince(pushStart);
  return { layer, report: { entries, chunks, digest, size, pushed, packSeconds, pushSeconds } };
}

/** What an encrypted blob's key follows from: reading all twice is the price of the same bytes each time. */
async function contentDigest(root: string, signal: AbortSignal | undefined): Promise<Digest> {
  const digest = new Digester();
  for await (const { body, path, size } of readDirectory(root, signal === undefined ? {} : { signal })) {
    digest.update(Buffer.from(`${path}\0${size}\0`, "latin1"));
    for await (const piece of body) digest.update(piece);
  }
  return digest.finish();
}
