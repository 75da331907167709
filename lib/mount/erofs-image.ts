/**
 * What the kernel gets as an image: the bootstrap itself, or, of one that it cannot read (RAFS v5, external blobs) or would
 * read wrong (some of tarfs), an equivalent one that lies in the cache directory under the digest of the original.
 *
 * @module
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomically } from "../content/files.ts";
import { type Bootstrap, openBootstrap } from "../rafs/bootstrap.ts";
import { hasExternalBlobs } from "../rafs/external.ts";
import { withPlacedLinks } from "../rafs/tarfs-links.ts";
import { erofsBootstrap } from "../rafs/v5/erofs.ts";
import type { CheckedBootstrap } from "./checked-bootstrap.ts";

/** Part of the file's name: another writer writes another file. */
const WRITER_VERSION = 1;

export interface ErofsImage {
  readonly path: string;
  /** Ids, in the order of the device slots. */
  readonly blobs: readonly string[];
}

/** @param path of the original */
export async function erofsImage(
  path: string,
  { image, digest }: CheckedBootstrap,
  cacheDirectory: string,
): Promise<ErofsImage> {
  const original = { path, blobs: image.blobs.map(({ id }) => id) };
  const external = hasExternalBlobs(image);
  if (image.version === 6 && !image.superblock.tarfs && !external) return original;
  const directory = join(cacheDirectory, "erofs");
  const translated = join(directory, `${digest}.${WRITER_VERSION}`);
  if (!existsSync(translated)) {
    const other = (from: Bootstrap): Uint8Array | undefined =>
      external ? from.bytes : withPlacedLinks(from);
    const bytes = image.version === 5 ? erofsBootstrap(image) : other(image);
    if (bytes === undefined) return original;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    await writeFileAtomically(translated, bytes, { mode: 0o600 });
  }
  return { path: translated, blobs: openBootstrap(readFileSync(translated)).blobs.map(({ id }) => id) };
}
