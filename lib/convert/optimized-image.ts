/**
 * Bootstrap layer, config and manifest of an image that got a blob of its hot chunks: the contract of the reference's
 * `optimize`.
 *
 * @module
 */
import { digestHex } from "../base/digest.ts";
import type { BlobFile } from "../blob/blob-writer.ts";
import type { Fetcher } from "../content/content.ts";
import { readBlobTables } from "../image/bootstrap-layer.ts";
import type { Image } from "../image/load.ts";
import type { History, ImageConfig } from "../oci/config.ts";
import type { Manifest } from "../oci/manifest.ts";
import { ANNOTATION, isDockerType } from "../oci/media-types.ts";
import { bootstrapLayer } from "./bootstrap-layer.ts";
import { blobDescriptor, bootstrapDescriptor, document } from "./manifest.ts";
import type { AssembledImage } from "./publish.ts";

/** Of images that can be optimized. */
const FS_VERSION = 6;

const STEP: History = { created_by: "nydus-tool optimize", comment: "Nydus Prefetch Blob" };

/** @param bootstrap of the new image */
export async function optimizedImage(
  store: Fetcher,
  { manifest, config }: Image,
  hot: BlobFile,
  bootstrap: Uint8Array,
  signal: AbortSignal,
): Promise<AssembledImage> {
  const tables = await readBlobTables(store, { manifest }, { signal });
  const files = tables.map(({ path, bytes }) => ({ name: path.slice("image/".length), bytes }));
  const own = hot.chunkInfo;
  if (own !== undefined) files.push({ name: `${digestHex(hot.digest)}.blob.meta`, bytes: own });
  const layer = bootstrapLayer(bootstrap, files);
  const family = isDockerType(manifest.mediaType) ? "docker" : "oci";
  const newConfig = document(optimizedConfig(config, hot, layer.diffId), manifest.config.mediaType);
  const last = {
    ...bootstrapDescriptor({ bootstrap: layer, family, fsVersion: FS_VERSION }),
    annotations: {
      ...manifest.layers.at(-1)?.annotations,
      [ANNOTATION.nydusHotBlob]: digestHex(hot.digest),
    },
  };
  // The image is another one beside the one that an ordinary image may point to.
  const { subject: _, ...rest } = manifest;
  const newManifest: Manifest = {
    ...rest,
    config: newConfig.descriptor,
    layers: [...manifest.layers.slice(0, -1), blobDescriptor(hot), last],
  };
  return {
    family,
    fsVersion: FS_VERSION,
    dictionaryBlobs: [],
    bootstrap: layer,
    bootstrapSize: bootstrap.byteLength,
    config: newConfig,
    manifest: document(newManifest, manifest.mediaType),
  };
}

/** The new layer's step stands before the bootstrap's, as the layers do. */
function optimizedConfig(
  config: ImageConfig,
  hot: BlobFile,
  bootstrapDiffId: ImageConfig["rootfs"]["diff_ids"][number],
): ImageConfig {
  const diffIds = [...config.rootfs.diff_ids.slice(0, -1), hot.digest, bootstrapDiffId];
  const { history } = config;
  const steps =
    history === undefined ? {} : { history: [...history.slice(0, -1), STEP, ...history.slice(-1)] };
  return { ...config, rootfs: { type: "layers", diff_ids: diffIds }, ...steps };
}
