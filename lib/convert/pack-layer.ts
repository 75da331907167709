/**
 * A layer becomes a blob: compressed tar -> tar entries -> chunks in a blob file, and the layer's tree. Everything
 * streams; what grows with the layer is its tree.
 *
 * @module
 */

import { chunkHasher, type Digest, Digester } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { Dictionary, type DictionaryTable } from "../blob/dictionary.ts";
import { ReferenceWriter } from "../blob/reference-writer.ts";
import { TarfsWriter } from "../blob/tarfs-writer.ts";
import { decompressed, sniffed } from "../content/decompress.ts";
import { IndexedGunzip } from "../content/indexed-gunzip.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { readTar } from "../tar/reader.ts";
import { blobWriter, type PackedContent, Packer, type PackFormat } from "./packer.ts";

export interface PackOptions extends PackFormat {
  /** Where the blob goes; there is no such file yet. */
  readonly path: string;
  /** What the layer is called in messages. */
  readonly what: string;
  /** Of the uncompressed tar, as the image's config has it. */
  readonly diffId?: Digest;
  /** Leave the data where it is, if that can be: in this layer of the source. With `tarfs` it always is. */
  readonly original?: Descriptor;
  /** Chunks that are not stored again. */
  readonly dictionary?: DictionaryTable;
  readonly signal?: AbortSignal;
}

export interface PackedLayer extends PackedContent {
  readonly diffId: Digest;
  /** Of the uncompressed tar. */
  readonly tarSize: number;
  /** Entries in the layer. */
  readonly entries: number;
}

interface OpenedLayer {
  readonly tar: AsyncIterable<Uint8Array>;
  readonly packer: Packer;
}

/** @throws corrupt when the tar is malformed or is not what `diffId` says */
export async function packLayer(
  source: AsyncIterable<Uint8Array>,
  options: PackOptions,
): Promise<PackedLayer> {
  const tar = new Digester();
  const opened = await openLayer(source, options, tar);
  const hashed = async function* (): AsyncGenerator<Uint8Array> {
    for await (const piece of opened.tar) {
      tar.update(piece);
      yield piece;
    }
  };
  using packer = opened.packer;
  let entries = 0;
  const { signal } = options;
  for await (const entry of readTar(hashed(), signal === undefined ? {} : { signal })) {
    await packer.add(entry);
    entries++;
  }
  const diffId = tar.finish();
  if (options.diffId !== undefined && options.diffId !== diffId)
    throw corrupt(
      `Cannot convert ${options.what}: its tar has digest ${diffId}, and the config says ${options.diffId}`,
    );
  return { ...(await packer.finish()), diffId, tarSize: tar.size, entries };
}

/** @param passed counts what has been read of the tar */
async function openLayer(
  source: AsyncIterable<Uint8Array>,
  options: PackOptions,
  passed: { readonly size: number },
): Promise<OpenedLayer> {
  const { original, path, what } = options;
  const hasher = await chunkHasher(options.digester);
  if (original === undefined) {
    const dictionary = options.dictionary && new Dictionary(options.dictionary);
    const writer = blobWriter(path, options, { hasher, secret: options.diffId, dictionary });
    return { tar: decompressed(source, what), packer: new Packer(writer, options, dictionary) };
  }
  if (options.tarfs === true) {
    const writer = new TarfsWriter(path, original, passed);
    return { tar: decompressed(source, what), packer: new Packer(writer, options) };
  }
  const { kind, whole } = await sniffed(source);
  if (kind === "gzip") {
    const gunzip = new IndexedGunzip(whole, what);
    const writer = new ReferenceWriter(path, original, gunzip, hasher);
    return { tar: gunzip.pieces(), packer: new Packer(writer, options) };
  }
  if (kind === "tar") {
    const writer = new ReferenceWriter(path, original, undefined, hasher);
    return { tar: whole, packer: new Packer(writer, options) };
  }
  // Nothing can be entered in the middle of other formats: such a layer is converted after all.
  return await openLayer(whole, withoutOriginal(options), passed);
}

function withoutOriginal({ original: _, ...options }: PackOptions): PackOptions {
  return options;
}
