/**
 * Bootstraps of layers on disk: as files of their own, or inside the blobs that were made of the layers.
 *
 * @module
 */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { basename } from "node:path";
import { type Digest, Digester, digestHex } from "../base/digest.ts";
import { corrupt, NydusError, toNydusError } from "../base/error.ts";
import { viewOf } from "../base/struct.ts";
import { readLayerBootstrap } from "../blob/layer-bootstrap.ts";
import type { Fetcher } from "../content/content.ts";
import { streamFile } from "../content/files.ts";
import { readBootstrapFile } from "../image/bootstrap-file.ts";
import { MEDIA } from "../oci/media-types.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { openImage } from "../rafs/image.ts";
import { EROFS_MAGIC, RAFS_V5_MAGIC, SUPERBLOCK_OFFSET } from "../rafs/superblock.ts";
import type { LayerBootstrap } from "./merge-bootstraps.ts";

const HEX = /^[0-9a-f]{64}$/;

/**
 * @param path of a bootstrap, which names its blob when it is called after it; or of a blob with a bootstrap inside
 * @throws not_found, corrupt
 */
export async function readLayerFile(
  path: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<LayerBootstrap> {
  const size = sizeOf(path);
  if (!isBootstrap(path)) return await fromBlob(path, size, options);
  const [stem = ""] = basename(path).split(".");
  const bytes = readBootstrapFile(path);
  // Where data and metadata are two blobs, the reference's converter names the file after the one with the data.
  const named = HEX.test(stem) && !isSeparate(bytes);
  return { name: path, bytes, ...(named ? { found: { digest: stem } } : {}) };
}

function isSeparate(bootstrap: Uint8Array): boolean {
  return openImage(bootstrap).blobs.some(({ features }) => (features & BLOB_FEATURES.separate) !== 0);
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  }
}

function isBootstrap(path: string): boolean {
  const head = new Uint8Array(SUPERBLOCK_OFFSET + 4);
  const fd = openSync(path, "r");
  try {
    readSync(fd, head);
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  } finally {
    closeSync(fd);
  }
  const view = viewOf(head);
  return view.getUint32(0, true) === RAFS_V5_MAGIC || view.getUint32(SUPERBLOCK_OFFSET, true) === EROFS_MAGIC;
}

async function fromBlob(
  path: string,
  size: number,
  options: { readonly signal?: AbortSignal },
): Promise<LayerBootstrap> {
  const fetcher: Fetcher = {
    fetch: async (_, { range = { start: 0, end: size }, signal } = {}) => streamFile(path, range, signal),
  };
  const digest = await digestOfFile(path, size, options.signal);
  const blob = { mediaType: MEDIA.nydusBlob, digest, size };
  const bytes = await readLayerBootstrap(fetcher, blob, options).catch((cause) => {
    throw new NydusError("corrupt", `Cannot merge "${path}": it is neither a bootstrap nor a Nydus blob`, {
      cause,
    });
  });
  if (bytes === undefined) throw corrupt(`Cannot merge "${path}": it is a blob without a bootstrap`);
  return { name: path, bytes, found: { digest: digestHex(digest), size } };
}

async function digestOfFile(path: string, size: number, signal: AbortSignal | undefined): Promise<Digest> {
  const digester = new Digester();
  for await (const piece of streamFile(path, { start: 0, end: size }, signal)) digester.update(piece);
  return digester.finish();
}
