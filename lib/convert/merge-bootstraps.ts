/**
 * Bootstraps of layers become the bootstrap of an image: what `nydus-image merge` does, with the rules of the OCI image
 * spec also in the lowest layer, and without losing what upper layers do not mention.
 *
 * @module
 */
import type { ByteString } from "../base/byte-string.ts";
import { chunkHasher } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { type BlobInfo, isPlaceholder } from "../rafs/blob-table.ts";
import { hasExternalBlobs } from "../rafs/external.ts";
import { BLOB_FEATURES, SUPERBLOCK_FLAGS } from "../rafs/flags.ts";
import { checkImage, openImage, type RafsImage, readTree, writeImage } from "../rafs/image.ts";
import { packedInfo } from "../rafs/v5/blob-table.ts";
import { blobsOf } from "../tree/blobs.ts";
import { withImplicit } from "../tree/implicit.ts";
import { mergeLayers } from "../tree/overlay.ts";
import type { BlobRef, Directory } from "../tree/tree.ts";
import { referTo } from "./merge.ts";

/** What a layer's bootstrap does not know of the layer's own blob, or says wrongly. */
export interface OwnBlob {
  /** Hex digest of the blob that has the data. */
  readonly id?: string;
  /** Hex digest and bytes of the blob that was made of the layer: the one with the data, or with metadata only. */
  readonly digest?: string;
  readonly size?: number;
  /** Of its table of contents. */
  readonly tocDigest?: string;
  readonly tocSize?: number;
}

export interface LayerBootstrap {
  /** For messages. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** The blob that it was found in, or named after: fills in what the bootstrap leaves open. */
  readonly found?: Pick<OwnBlob, "digest" | "size">;
  /** Overrides what the bootstrap says. */
  readonly own?: OwnBlob;
}

export interface MergeBootstrapsOptions {
  /** A finished image below all layers. */
  readonly parent?: LayerBootstrap;
  /** Bootstraps of chunk dictionaries: their blobs belong to no layer. */
  readonly dictionaries?: readonly LayerBootstrap[];
  /** Paths whose data is wanted first; by default everything is. */
  readonly prefetch?: readonly ByteString[];
}

export interface MergedBootstrap {
  readonly bytes: Uint8Array;
  /** Hex digests in the order of the blob table. */
  readonly blobs: readonly string[];
}

/**
 * @param layers lowest first
 * @throws corrupt when one breaks a rule; unsupported when they do not go together; usage when a blob's digest is
 *   missing
 */
export async function mergeBootstraps(
  layers: readonly LayerBootstrap[],
  options: MergeBootstrapsOptions = {},
): Promise<MergedBootstrap> {
  const { parent, dictionaries = [], prefetch } = options;
  const opened = await Promise.all(layers.map(open));
  const below = parent === undefined ? [] : [await open(parent)];
  const dictionary = new Set(
    (await Promise.all(dictionaries.map(open))).flatMap(({ image }) => image.blobs.map(({ id }) => id)),
  );
  const all = [...below, ...opened];
  const last = all.at(-1);
  if (last === undefined) throw new NydusError("usage", "Cannot merge: no bootstrap was given");
  for (const one of all) assertAlike(one, last);
  const blobs = new Blobs();
  const trees = [
    ...below.map((one) => blobs.take(one, new Set(one.image.blobs.map(({ id }) => id)))),
    ...opened.map((layer) => withImplicit(blobs.take(layer, dictionary))),
  ];
  const { version, superblock } = last.image;
  const bytes = writeImage(mergeLayers(trees), {
    version,
    hasher: await chunkHasher(superblock.digester),
    chunkSize: superblock.chunkSize,
    compressor: superblock.compressor,
    blobs: blobs.infos,
    hasXattr: "always",
    explicitOwner: (superblock.flags & SUPERBLOCK_FLAGS.explicitOwner) !== 0,
    ...(prefetch === undefined ? {} : { prefetch }),
  });
  return { bytes, blobs: openImage(bytes).blobs.map(({ id }) => id) };
}

interface Opened extends LayerBootstrap {
  readonly image: RafsImage;
}

async function open(layer: LayerBootstrap): Promise<Opened> {
  const [violation] = await checkImage(layer.bytes);
  if (violation !== undefined) {
    const { path, message } = violation;
    throw corrupt(`Cannot merge "${layer.name}": ${path === "" ? "" : `${path}: `}${message}`);
  }
  return { ...layer, image: openImage(layer.bytes) };
}

/** One bootstrap can say each of these things only once. */
function assertAlike({ image, name }: Opened, { image: other, name: otherName }: Opened): void {
  const differ = (what: string): NydusError =>
    new NydusError("unsupported", `Cannot merge "${name}" with "${otherName}": they differ in ${what}`);
  if (image.version === 6 && image.superblock.tarfs)
    throw new NydusError("unsupported", `Cannot merge "${name}": it lies over a plain tar (tarfs)`);
  if (hasExternalBlobs(image))
    throw new NydusError("unsupported", `Cannot merge "${name}": its blobs are external files`);
  const [a, b] = [image.superblock, other.superblock];
  if (image.version !== other.version) throw differ("their version of RAFS");
  if (a.chunkSize !== b.chunkSize) throw differ("chunk size");
  if (a.digester !== b.digester) throw differ("their digest algorithm");
  if (((a.flags ^ b.flags) & SUPERBLOCK_FLAGS.explicitOwner) !== 0) throw differ("whether owners are meant");
  if (image.version === 5 && a.compressor !== b.compressor)
    throw differ("compressor, which RAFS v5 has but one of");
}

/** The blobs of all layers, each under one reference. */
class Blobs {
  readonly infos = new Map<BlobRef, BlobInfo>();
  readonly #byId = new Map<string, BlobRef>();

  /** The tree of one layer, its blobs known by their true digests. */
  take(layer: Opened, foreign: ReadonlySet<string>): Directory {
    const { image } = layer;
    const tree = readTree(image);
    const ownId = ownBlob(layer, foreign);
    const infos = new Map(
      image.blobs.map((blob) => [blob.id, "packedSize" in blob ? packedInfo(blob) : blob]),
    );
    for (const ref of blobsOf(tree)) {
      const stored = infos.get(ref.id);
      if (stored === undefined) continue;
      const info = ref.id === ownId ? withFacts(stored, layer) : stored;
      ref.id = info.id;
      const known = this.#byId.get(info.id);
      if (known !== undefined) referTo(known, tree, ref);
      else {
        this.#byId.set(info.id, ref);
        this.infos.set(ref, { ...info, features: info.features & ~BLOB_FEATURES.inlinedBootstrap });
      }
    }
    return tree;
  }
}

/** The id, in the layer's table, of the blob that was made of the layer. */
function ownBlob({ image, name, own = {} }: Opened, foreign: ReadonlySet<string>): string | undefined {
  const candidates = image.blobs.filter(({ id }) => !foreign.has(id)).map(({ id }) => id);
  const unnamed = candidates.find(isPlaceholder);
  if (unnamed !== undefined || candidates.length < 2) return unnamed ?? candidates[0];
  if (Object.keys(own).length === 0) return undefined;
  throw new NydusError(
    "unsupported",
    `Cannot merge "${name}": it refers to ${candidates.length} blobs that are in no dictionary`,
  );
}

function withFacts(blob: BlobInfo, { name, found, own = {} }: Opened): BlobInfo {
  const separate = (blob.features & BLOB_FEATURES.separate) !== 0;
  const { id, digest, size, tocDigest, tocSize } = own;
  const toc = {
    ...(tocDigest === undefined ? {} : { tocDigest: Buffer.from(tocDigest, "hex") }),
    ...(tocSize === undefined ? {} : { tocSize }),
  };
  if (!separate) {
    const known = id ?? digest ?? (isPlaceholder(blob.id) ? found?.digest : blob.id);
    if (known === undefined) throw unknownBlob(name);
    return { ...blob, id: known, ...(size === undefined ? {} : { compressedSize: size }), ...toc };
  }
  const metadata = digest ?? found?.digest;
  if (metadata === undefined && blob.metaSize === 0) throw unknownBlob(name);
  return {
    ...blob,
    id: id ?? blob.id,
    ...(metadata === undefined ? {} : { metaDigest: Buffer.from(metadata, "hex") }),
    metaSize: size ?? found?.size ?? blob.metaSize,
    ...toc,
  };
}

function unknownBlob(name: string): NydusError {
  return new NydusError(
    "usage",
    `Cannot merge "${name}": the digest of its blob is not known; say it with --blob-digests, or name the file after it`,
  );
}
