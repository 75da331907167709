/**
 * Converts a root file system on disk: an image of one layer.
 *
 * @module
 */
import { chunkHasher } from "../base/digest.ts";
import { silent } from "../base/progress.ts";
import type { ImageConfig } from "../oci/config.ts";
import type { Platform } from "../oci/descriptor.ts";
import { hostPlatform } from "../oci/platform.ts";
import { readDirectory } from "../tar/read-directory.ts";
import type { ConvertOptions } from "./image.ts";
import { blobWriter, type PackedContent, Packer, type PackFormat } from "./packer.ts";
import { assembleImage, publishImage, pushBlob, type Target } from "./publish.ts";
import { type ConvertReport, type LayerReport, secondsSince, totals } from "./report.ts";
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
  const config = configFor(options.platform ?? hostPlatform());
  const image = await assembleImage(
    [layer],
    { family: options.family ?? "oci", config, source: {} },
    options,
  );
  const bootstrap = await publishImage(image, target, options.signal);
  return {
    targetDigest: image.manifest.descriptor.digest,
    copied: false,
    layers: [report],
    bootstrap,
    ...totals([report], bootstrap),
    seconds: secondsSince(start),
  };
}

async function packAndPush(
  root: string,
  target: Target,
  options: DirectoryOptions,
): Promise<{ layer: PackedContent; report: LayerReport }> {
  const { fsVersion, compressor, digester, chunkSize, signal } = options;
  const format: PackFormat = { compressor, digester, chunkSize, ...(fsVersion && { fsVersion }) };
  const start = performance.now();
  const task = (options.progress ?? silent).task("directory");
  await using work = await WorkDirectory.create(options.workDirectory);
  const hasher = await chunkHasher(digester);
  using packer = new Packer(blobWriter(work.file("blob"), format, hasher), format);
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

function configFor(platform: Platform): ImageConfig {
  const { architecture, os, variant } = platform;
  return {
    architecture,
    os,
    ...(variant === undefined ? {} : { variant }),
    config: {},
    rootfs: { type: "layers", diff_ids: [] },
    history: [{ created_by: "nydus-tool convert", comment: "a directory" }],
  };
}
