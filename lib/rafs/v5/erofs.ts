/**
 * What the kernel mounts in place of a v5 bootstrap, which it cannot read: a v6 one with the same tree, whose devices
 * are the blobs' local address spaces (`local-space.ts`).
 *
 * @module
 */
import { NydusError } from "../../base/error.ts";
import type { BlobRef } from "../../tree/tree.ts";
import type { BlobInfo } from "../blob-table.ts";
import { BLOB_FEATURES } from "../flags.ts";
import { writeBootstrap } from "../writer.ts";
import { dataSize, type V5Blob } from "./blob-table.ts";
import type { V5Bootstrap } from "./bootstrap.ts";
import { readTree } from "./tree-reader.ts";

/** Bytes of one entry of the compression information, whose size v6 derives from the number of chunks. */
const CI_ENTRY = 16;
const NO_DIGEST = new Uint8Array(32);

/**
 * The same input gives the same bytes. The blobs are in the order in which files use them; those without any are left
 * out, as v6 lists none such.
 */
export function erofsBootstrap(image: V5Bootstrap): Uint8Array {
  const { chunkSize, compressor, digester } = image.superblock;
  const infos = new Map(image.blobs.map((blob) => [blob.id, infoOf(blob, image)]));
  const info = ({ id }: BlobRef): BlobInfo => {
    const found = infos.get(id);
    if (found !== undefined) return found;
    throw new NydusError("internal", `Cannot write the bootstrap: nothing is known about blob ${id}`);
  };
  return writeBootstrap(readTree(image, "local"), {
    chunkSize,
    compressor,
    digester,
    blobs: info,
    prefetch: [],
    hasXattr: "found",
  });
}

/** v5 blobs have no compression information; it is a form that the entry must keep. */
function infoOf(blob: V5Blob, { blobs }: V5Bootstrap): BlobInfo {
  const { id, chunkCount, compressor, digester, uncompressedSize } = blob;
  return {
    id,
    index: blobs.indexOf(blob),
    chunkCount,
    compressor,
    digester,
    features: BLOB_FEATURES.aligned,
    compressedSize: dataSize(blob),
    uncompressedSize,
    tocSize: 0,
    tocDigest: NO_DIGEST,
    ciCompressor: "none",
    ciOffset: dataSize(blob),
    ciCompressedSize: CI_ENTRY * chunkCount,
    ciUncompressedSize: CI_ENTRY * chunkCount,
    metaDigest: NO_DIGEST,
    metaSize: 0,
  };
}
