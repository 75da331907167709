/**
 * The images whose chunks a conversion need not store again: reads their bootstraps, and makes the blobs that the new
 * image refers to readable where that will be.
 *
 * @module
 */
import { digestFromHex, digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { Dictionary, type DictionaryTable, dictionaryTable } from "../blob/dictionary.ts";
import { hasDigests } from "../blob/load-chunk-maps.ts";
import type { BlobStore, Fetcher } from "../content/content.ts";
import { copyBlob } from "../image/copy-blob.ts";
import { type ImageLocation, type LocatedImage, locateImage } from "../image/location.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { ANNOTATION, MEDIA } from "../oci/media-types.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { openImage, type RafsImage } from "../rafs/image.ts";
import { DEFAULT_COMPRESSOR, type PackFormat } from "./packer.ts";

/** A blob of a dictionary, in the target now. */
export interface ProvidedBlob {
  /** As the converted image's manifest lists it. */
  readonly layer: Descriptor;
  readonly how: "present" | "mounted" | "sent";
}

/** Where a conversion reads from and writes to. */
export interface ConversionPlaces {
  readonly target: BlobStore;
  /** Has blobs, perhaps, of dictionaries that do not say where theirs are. */
  readonly source?: Fetcher;
  readonly signal: AbortSignal;
}

type UsedBlob = Pick<BlobInfo, "id" | "compressedSize" | "features">;

interface Opened {
  readonly located: LocatedImage;
  readonly bootstrap: RafsImage;
}

/** Chunks can only be shared by images that cut and name them alike. */
type Format = Required<Pick<PackFormat, "chunkSize" | "digester" | "fsVersion">> &
  Pick<PackFormat, "compressor">;
/** What people have asked for. */
type Wanted = Partial<Format>;

export class Dictionaries implements AsyncDisposable {
  readonly #opened: readonly Opened[];
  readonly format: Format;
  /** For packing threads. */
  readonly table: DictionaryTable;
  readonly lookup: Dictionary;

  private constructor(opened: readonly Opened[], format: Format, minImages: number) {
    this.#opened = opened;
    this.format = format;
    this.table = dictionaryTable(
      opened.map(({ bootstrap }) => bootstrap),
      minImages,
    );
    this.lookup = new Dictionary(this.table);
  }

  /**
   * @param locations at least one: Nydus images, or bootstrap files
   * @param wanted what the new image must be; what is left out follows the dictionaries
   * @param options `minImages`: leave out chunks that fewer of them have
   * @throws usage when they do not go together, and what reading them throws
   */
  static async open(
    locations: readonly string[],
    access: Omit<ImageLocation, "location">,
    wanted: Wanted,
    { minImages = 1 }: { readonly minImages?: number } = {},
  ): Promise<Dictionaries> {
    const opened: Opened[] = [];
    try {
      for (const location of locations) opened.push(await openOne({ ...access, location }));
      return new Dictionaries(opened, commonFormat(opened, wanted), minImages);
    } catch (error) {
      await closeAll(opened);
      throw error;
    }
  }

  /**
   * Gets a blob into the target unless it is there; the registry does it alone where it can.
   *
   * @throws not_found when nobody has it
   */
  async provide(blob: UsedBlob, places: ConversionPlaces): Promise<ProvidedBlob> {
    const { id, compressedSize, features } = blob;
    const { target, signal } = places;
    for (const { located, bootstrap } of this.#opened) {
      if (!bootstrap.blobs.some((other) => other.id === id)) continue;
      const layer = located.image?.manifest.layers.find((candidate) => holds(candidate, id));
      if (layer === undefined || located.fetcher === undefined) continue;
      const how = await copyBlob(layer, located.fetcher, target, { signal });
      // The data of such a blob is in an ordinary image's layer.
      const original = { mediaType: MEDIA.ociLayerGzip, digest: digestFromHex(id), size: compressedSize };
      if (layer.digest !== original.digest) await copyBlob(original, located.fetcher, target, { signal });
      return { layer: listed(layer), how };
    }
    if ((features & BLOB_FEATURES.separate) === 0) {
      const found = await findBlob(id, places);
      if (found !== undefined) return found;
    }
    throw new NydusError(
      "not_found",
      `Cannot refer to blob "${id}" of a dictionary: it is not in the target; name the image that it is from instead of a bootstrap file`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeAll(this.#opened);
  }
}

async function openOne(request: ImageLocation): Promise<Opened> {
  const located = await locateImage(request);
  try {
    const bootstrap = openImage(located.bootstrap);
    if (!hasDigests(bootstrap))
      throw new NydusError(
        "unsupported",
        `Cannot use dictionary "${located.name}": its chunks have no digests`,
      );
    return { located, bootstrap };
  } catch (error) {
    await located[Symbol.asyncDispose]();
    throw error;
  }
}

async function closeAll(opened: readonly Opened[]): Promise<void> {
  await Promise.all(opened.map(({ located }) => located[Symbol.asyncDispose]()));
}

const SAYINGS = {
  fsVersion: { flag: "--fs-version", say: (value: unknown) => `it is RAFS v${value}` },
  chunkSize: { flag: "--chunk-size", say: (value: unknown) => `its chunks have ${value} bytes` },
  digester: { flag: "--digester", say: (value: unknown) => `its chunks are named by ${value}` },
  compressor: { flag: "--compressor", say: (value: unknown) => `its chunks are compressed by ${value}` },
} as const;

function commonFormat(opened: readonly Opened[], wanted: Wanted): Format {
  let common: Format | undefined;
  for (const { located, bootstrap } of opened) {
    const own = formatOf(bootstrap);
    const others: Wanted = common ?? wanted;
    for (const key of ["fsVersion", "chunkSize", "digester", "compressor"] as const) {
      // In v6 each blob has a compressor of its own.
      if (
        others[key] === undefined ||
        others[key] === own[key] ||
        (key === "compressor" && own.fsVersion === 6)
      )
        continue;
      const { flag, say } = SAYINGS[key];
      throw new NydusError(
        "usage",
        `Cannot use dictionary "${located.name}": ${say(own[key])}, not ${others[key]}; see ${flag}`,
      );
    }
    common ??= own.fsVersion === 6 ? { ...own, compressor: wanted.compressor ?? DEFAULT_COMPRESSOR } : own;
  }
  if (common !== undefined) return common;
  throw new NydusError("internal", "Cannot open dictionaries: there are none");
}

function formatOf({ version, superblock: { chunkSize, digester, compressor } }: RafsImage): Format {
  // Where the chunks are in original gzip layers, or in old blobs, new ones are compressed as usual.
  return {
    fsVersion: version,
    chunkSize,
    digester,
    compressor: compressor === "gzip" ? DEFAULT_COMPRESSOR : compressor,
  };
}

/** Whether a layer of a manifest stands for the blob that a bootstrap calls by this id. */
function holds({ digest, annotations }: Descriptor, id: string): boolean {
  return digestHex(digest) === id || annotations?.[ANNOTATION.nydusRef] === digestFromHex(id);
}

const KEPT = [ANNOTATION.nydusRef, ANNOTATION.nydusEncryptedBlob] as const;

/** As a layer of the new image: nothing but what readers need. */
function listed({ digest, size, annotations = {} }: Descriptor): Descriptor {
  const kept = KEPT.flatMap((key) => (annotations[key] === undefined ? [] : [[key, annotations[key]]]));
  return {
    mediaType: MEDIA.nydusBlob,
    digest,
    size,
    annotations: { [ANNOTATION.nydusBlob]: "true", ...Object.fromEntries(kept) },
  };
}

/** A bootstrap file does not say how large a blob is, nor where. */
async function findBlob(
  id: string,
  { target, source, signal }: ConversionPlaces,
): Promise<ProvidedBlob | undefined> {
  const digest = digestFromHex(id);
  const here = await target.sizeOf?.(digest, { signal });
  if (here !== undefined)
    return { layer: listed({ mediaType: MEDIA.nydusBlob, digest, size: here }), how: "present" };
  const size = await source?.sizeOf?.(digest, { signal });
  if (source === undefined || size === undefined) return undefined;
  const layer = listed({ mediaType: MEDIA.nydusBlob, digest, size });
  return { layer, how: await copyBlob(layer, source, target, { signal }) };
}
