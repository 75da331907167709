/**
 * The bootstrap as an image layer: a tar with `image/image.boot`, and beside it the compression information of each
 * blob, which the reference's daemon otherwise fetches when it mounts. Every byte follows from the content: no times, no
 * owners, no names.
 *
 * @module
 */
import { type Digest, digestOf } from "../base/digest.ts";

const BLOCK = 512;
const DIRECTORY = "5";
const FILE = "0";

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
    ustarHeader("image", { mode: 0o755, size: 0, type: DIRECTORY }),
    ...all.flatMap(({ name, bytes }) => [
      ustarHeader(`image/${name}`, { mode: 0o444, size: bytes.byteLength, type: FILE }),
      bytes,
      new Uint8Array((BLOCK - (bytes.byteLength % BLOCK)) % BLOCK),
    ]),
    new Uint8Array(2 * BLOCK),
  ]);
  const bytes = Bun.gzipSync(tar, GZIP);
  return { bytes, digest: digestOf(bytes), diffId: digestOf(tar) };
}

/** The form that Go's archive/tar gives such an entry: the reference's layers are compared byte by byte in tests. */
function ustarHeader(path: string, entry: { mode: number; size: number; type: string }): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, width: number): void => {
    header.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at, "latin1");
  };
  header.write(path, 0, "latin1");
  octal(entry.mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(entry.size, 124, 12);
  octal(0, 136, 12);
  header.write(entry.type, 156, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  octal(0, 329, 8);
  octal(0, 337, 8);
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}
