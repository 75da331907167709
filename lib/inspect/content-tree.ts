/**
 * File trees whose content is known by digests, of anything that has files: Nydus images, ordinary images, bootstraps,
 * directories. Two trees hashed in one format can be compared without keeping data, and a Nydus image in its own format
 * without fetching any.
 *
 * @module
 */
import { type ChunkDigester, type ChunkHasher, chunkHasher } from "../base/digest.ts";
import { type Progress, silent, type Task } from "../base/progress.ts";
import { chunksOf } from "../blob/chunker.ts";
import { hasDigests } from "../blob/load-chunk-maps.ts";
import { decompressed } from "../content/decompress.ts";
import { EntryTree } from "../content/entry-tree.ts";
import { loadImage } from "../image/load.ts";
import { type ImageLocation, isNydusLocation } from "../image/location.ts";
import { NydusImage } from "../image/nydus-image.ts";
import { openStore } from "../image/open.ts";
import type { TarEntry } from "../tar/entry.ts";
import { readDirectory } from "../tar/read-directory.ts";
import { readTar } from "../tar/reader.ts";
import { FileContents } from "../tree/file-contents.ts";
import { mergeLayers } from "../tree/overlay.ts";
import type { BlobRef, ChunkRef, Directory, RegularFile } from "../tree/tree.ts";
import { chunksInOrder, visits } from "../tree/walk.ts";

/** How files are cut and hashed. */
export interface ChunkFormat {
  /** Bytes. */
  readonly chunkSize: number;
  readonly digester: ChunkDigester;
}

export interface ContentTree {
  readonly root: Directory;
  /** Of the file's chunks, in file order. */
  digests(file: RegularFile): readonly Uint8Array[];
}

export interface ContentOptions {
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/** Something with files, opened. */
export interface ContentSource extends AsyncDisposable {
  /** As it was written. */
  readonly name: string;
  /** The format that costs nothing; undefined when all cost the same. */
  readonly format: ChunkFormat | undefined;
  /** @throws corrupt, and what reading throws */
  tree(format: ChunkFormat, options?: ContentOptions): Promise<ContentTree>;
}

const DIRECTORY = "dir:";

/** @param request.location besides what `locateImage` takes also ordinary images and "dir:PATH" */
export async function openContent(request: ImageLocation): Promise<ContentSource> {
  const { location: name } = request;
  if (name.startsWith(DIRECTORY)) return directorySource(name);
  if (await isNydusLocation(request)) return nydusSource(await NydusImage.open(request));
  return ordinarySource(request);
}

function directorySource(name: string): ContentSource {
  return {
    name,
    format: undefined,
    async tree(format, { progress = silent, signal } = {}) {
      const task = progress.task(name);
      const entries = readDirectory(name.slice(DIRECTORY.length), signal === undefined ? {} : { signal });
      const root = await hashedTree(entries, format, task);
      task.finish();
      return { root, digests: ownDigests };
    },
    async [Symbol.asyncDispose]() {},
  };
}

function ordinarySource(request: ImageLocation): ContentSource {
  const { location: name } = request;
  return {
    name,
    format: undefined,
    async tree(format, { progress = silent, signal } = {}) {
      const { store, reference } = await openStore(name, request);
      await using _store = store;
      const image = await loadImage(store, reference, request);
      const layers: Directory[] = [];
      for (const { descriptor } of image.layers) {
        const what = `layer "${descriptor.digest}"`;
        const task = progress.task(`layer ${descriptor.digest.slice(7, 19)}`);
        const body = await store.fetch(descriptor, signal === undefined ? {} : { signal });
        layers.push(await hashedTree(readTar(decompressed(body, what)), format, task));
        task.finish();
      }
      return { root: mergeLayers(layers), digests: ownDigests };
    },
    async [Symbol.asyncDispose]() {},
  };
}

function nydusSource(image: NydusImage): ContentSource {
  const { chunkSize, digester } = image.bootstrap.superblock;
  const own = hasDigests(image.bootstrap) ? { chunkSize, digester } : undefined;
  return {
    name: image.name,
    format: own,
    async tree(format, options = {}) {
      const { root } = image;
      if (own !== undefined && format.chunkSize === chunkSize && format.digester === digester)
        return { root, digests: ownDigests };
      const hashed = await rehashed(image, format, options);
      return { root, digests: (file) => hashed.get(file) ?? [] };
    },
    [Symbol.asyncDispose]: () => image[Symbol.asyncDispose](),
  };
}

function ownDigests({ chunks }: RegularFile): readonly Uint8Array[] {
  return chunks.map(({ digest }) => digest);
}

/** What has been hashed is in no blob. */
const NOWHERE: BlobRef = { id: "" };

async function hashedTree(
  entries: AsyncIterable<TarEntry>,
  { chunkSize, digester }: ChunkFormat,
  task: Task,
): Promise<Directory> {
  const hasher = await chunkHasher(digester);
  const tree = new EntryTree(async ({ body, size }) => {
    const digests = await digestsOf(body, size, { chunkSize, hasher });
    task.advance(size);
    return digests.map((digest, index): ChunkRef => {
      const place = { compressedOffset: 0, compressedSize: 0, uncompressedOffset: 0, uncompressedSize: 0 };
      return { blob: NOWHERE, index, ...place, compressed: false, digest, crc: 0 };
    });
  });
  for await (const entry of entries) await tree.add(entry);
  return tree.root;
}

async function digestsOf(
  body: AsyncIterable<Uint8Array>,
  size: number,
  { chunkSize, hasher }: { readonly chunkSize: number; readonly hasher: ChunkHasher },
): Promise<Uint8Array[]> {
  if (size === 0) return [];
  const digests: Uint8Array[] = [];
  for await (const chunk of chunksOf(body, size, chunkSize)) digests.push(hasher.digest(chunk));
  return digests;
}

/** Reads all data of an image, and verifies it on the way. */
async function rehashed(
  image: NydusImage,
  { chunkSize, digester }: ChunkFormat,
  { progress = silent, signal }: ContentOptions,
): Promise<ReadonlyMap<RegularFile, readonly Uint8Array[]>> {
  const hasher = await chunkHasher(digester);
  const task = progress.task(image.name);
  const options = signal === undefined ? {} : { signal };
  await using contents = new FileContents(image.chunks(chunksInOrder(image.root), options));
  const found = new Map<RegularFile, readonly Uint8Array[]>();
  for (const visit of visits(image.root)) {
    const { node } = visit;
    if (visit.kind === "leave" || visit.first !== undefined || node.kind !== "file") continue;
    found.set(node, await digestsOf(contents.next(node), node.size, { chunkSize, hasher }));
    task.advance(node.size);
  }
  task.finish();
  return found;
}
