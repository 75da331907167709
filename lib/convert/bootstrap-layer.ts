/**
 * The bootstrap as an image layer: a tar with `image/image.boot`, and beside it the compression information of each
 * blob, which the reference's daemon otherwise fetches when it mounts. Every byte follows from the content: no times, no
 * owners, no names.
 *
 * @module
 */
import { byteStringOf } from "../base/byte-string.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { TAR_END, tarHeader, tarPadding } from "../tar/writer.ts";

/** libdeflate's output is the same on every CPU (zlib's forks differ); its header has no time and no system. */
const GZIP = { library: "libdeflate", level: 6 } as const;

export interface BootstrapFile {
  /** Below `image/`. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface BootstrapLayer {
  /** The gzip file. */
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly diffId: Digest;
}

/** @param files after the bootstrap itself, in this order */
export function bootstrapLayer(bootstrap: Uint8Array, files: readonly BootstrapFile[]): BootstrapLayer {
  const all = [{ name: "image.boot", bytes: bootstrap }, ...files];
  const tar = Buffer.concat([
    tarHeader({ kind: "directory", path: byteStringOf("image"), mode: 0o755 }),
    ...all.flatMap(({ name, bytes }) => [
      tarHeader({ kind: "file", path: byteStringOf(`image/${name}`), mode: 0o444, size: bytes.byteLength }),
      bytes,
      tarPadding(bytes.byteLength),
    ]),
    TAR_END,
  ]);
  const bytes = Bun.gzipSync(tar, GZIP);
  return { bytes, digest: digestOf(bytes), diffId: digestOf(tar) };
}
