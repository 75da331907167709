/**
 * What a converted image shows, read back from its store without mounting it: the bootstrap's tree, and each file's data
 * out of the blobs, decompressed and hashed.
 *
 * @module
 */

import { decompressChunk } from "../../lib/base/compression.ts";
import { type ChunkHasher, chunkHasher, digestFromHex, sameBytes } from "../../lib/base/digest.ts";
import type { ImageStore } from "../../lib/content/content.ts";
import { readBlob } from "../../lib/content/read.ts";
import { readAll } from "../../lib/content/verified.ts";
import { readBootstrapLayer } from "../../lib/image/bootstrap-layer.ts";
import { type Image, loadImage } from "../../lib/image/load.ts";
import { type Bootstrap, openBootstrap } from "../../lib/rafs/bootstrap.ts";
import { readTree } from "../../lib/rafs/tree-reader.ts";
import { readTar } from "../../lib/tar/reader.ts";
import { type Directory, type Node, type RegularFile, sortedEntries } from "../../lib/tree/tree.ts";
import type { GoldenLine } from "./golden.ts";
import type { ExpectedEntry } from "./model.ts";

export interface ConvertedImage {
  readonly image: Image;
  readonly bootstrap: Bootstrap;
  /** Sorted by path; paths and targets are byte strings. */
  readonly entries: readonly ExpectedEntry[];
}

export async function readConverted(store: ImageStore, reference?: string): Promise<ConvertedImage> {
  const image = await loadImage(store, reference);
  const bootstrap = openBootstrap(await readBootstrapLayer(store, image));
  const blobs = new Map<string, Uint8Array>();
  for (const { descriptor } of image.layers.slice(0, -1))
    blobs.set(descriptor.digest, await readBlob(store, descriptor, { limit: 2 ** 30, what: "the blob" }));
  const hasher = await chunkHasher(bootstrap.superblock.digester);
  const entries = new Describer(bootstrap, blobs, hasher).describe(readTree(bootstrap));
  return { image, bootstrap, entries: entries.toSorted((a, b) => (a.path < b.path ? -1 : 1)) };
}

class Describer {
  readonly #bootstrap: Bootstrap;
  readonly #blobs: ReadonlyMap<string, Uint8Array>;
  readonly #hasher: ChunkHasher;
  readonly #names = new Map<Node, string[]>();

  constructor(bootstrap: Bootstrap, blobs: ReadonlyMap<string, Uint8Array>, hasher: ChunkHasher) {
    this.#bootstrap = bootstrap;
    this.#hasher = hasher;
    this.#blobs = blobs;
  }

  describe(root: Directory): ExpectedEntry[] {
    this.#collect(root, "");
    const entries: ExpectedEntry[] = [];
    for (const [node, paths] of this.#names)
      for (const path of paths) entries.push(this.#entry(node, path === "" ? "/" : path));
    return entries;
  }

  #collect(node: Node, path: string): void {
    this.#names.set(node, [...(this.#names.get(node) ?? []), path]);
    if (node.kind !== "directory") return;
    for (const [name, child] of sortedEntries(node)) this.#collect(child, `${path}/${name}`);
  }

  #entry(node: Node, path: string): ExpectedEntry {
    const { mode, uid, gid, mtime, mtimeNs } = node.attributes;
    const xattrs: Record<string, string> = {};
    for (const [key, value] of [...node.attributes.xattrs].sort(([a], [b]) => (a < b ? -1 : 1)))
      xattrs[key] = Buffer.from(value).toString("hex");
    if (node.kind === "socket") throw new Error(`${path} is a socket`);
    const type: ExpectedEntry["type"] = node.kind === "directory" ? "dir" : node.kind;
    const stamp: readonly [number, number] = [mtime, mtimeNs];
    const common = { path, type, mode, uid, gid, mtime: stamp, xattrs };
    switch (node.kind) {
      case "file": {
        const links = (this.#names.get(node) ?? []).toSorted();
        const [link = path] = links;
        return { ...common, size: node.size, sha256: this.#hash(node), nlink: links.length, link };
      }
      case "symlink":
        return { ...common, target: node.target };
      case "char":
      case "block":
        return { ...common, rdev: [node.major, node.minor] };
      default:
        return common;
    }
  }

  #hash(file: RegularFile): string {
    const hash = new Bun.CryptoHasher("sha256");
    const { compressor } = this.#bootstrap.superblock;
    let left = file.size;
    for (const chunk of file.chunks) {
      const blob = this.#blobs.get(digestFromHex(chunk.blob.id));
      if (blob === undefined) throw new Error(`no blob ${chunk.blob.id}`);
      const end = chunk.compressedOffset + chunk.compressedSize;
      const stored = blob.subarray(chunk.compressedOffset, end);
      const size = chunk.uncompressedSize;
      const bytes = decompressChunk(chunk.compressed ? compressor : "none", stored, size);
      if (!sameBytes(this.#hasher.digest(bytes), chunk.digest)) throw new Error("a chunk's digest is wrong");
      hash.update(bytes);
      left -= size;
    }
    if (left !== 0) throw new Error(`a file of ${file.size} bytes lacks ${left}`);
    return hash.digest("hex");
  }
}

/** The files of the bootstrap layer, in order. */
export async function bootstrapLayerFiles(store: ImageStore, image: Image): Promise<[string, Uint8Array][]> {
  const layer = image.layers.at(-1);
  if (layer === undefined) throw new Error("no layers");
  const gzip = await readAll(await store.fetch(layer.descriptor), 2 ** 30, "the layer");
  const tar = Bun.gunzipSync(gzip as Uint8Array<ArrayBuffer>);
  const files: [string, Uint8Array][] = [];
  for await (const entry of readTar(piecesOf(tar)))
    files.push([entry.path, Buffer.concat(await Array.fromAsync(entry.body))]);
  return files;
}

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Python's `os.fsencode`: bytes that are not UTF-8 travel as lone surrogates. */
function fsEncode(text: string): string {
  const bytes = [...text].map((c) => {
    const code = c.codePointAt(0) ?? 0;
    return code >= 0xdc80 && code <= 0xdcff
      ? String.fromCharCode(code - 0xdc00)
      : Buffer.from(c, "utf8").toString("latin1");
  });
  return bytes.join("");
}

/**
 * Lines of a golden tree, and ours in the same terms. What the golden line leaves open (null) is taken from ours.
 */
export function goldenTerms(
  lines: string,
  ours: readonly ExpectedEntry[],
): { wanted: unknown[]; found: unknown[] } {
  const byPath = new Map(ours.map((entry) => [entry.path, entry]));
  const sorted = (xattrs: Readonly<Record<string, string>>): object =>
    Object.fromEntries(Object.entries(xattrs).sort(([a], [b]) => (a < b ? -1 : 1)));
  const wanted = lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as GoldenLine)
    .map((line) => {
      const path = fsEncode(line.path);
      return {
        ...line,
        path,
        mode: Number.parseInt(line.mode, 8),
        xattrs: sorted(line.xattrs),
        ...(line.target === undefined ? {} : { target: fsEncode(line.target) }),
        mtime: line.mtime ?? byPath.get(path)?.mtime?.[0] ?? null,
      };
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const found = ours.map(({ link: _, mtime, ...entry }) => ({ ...entry, mtime: mtime?.[0] ?? null }));
  return { wanted, found };
}
