/**
 * The images whose chunks a conversion need not store again: reads their bootstraps, and makes the blobs that the new
 * image refers to readable where that will be.
 *
 * @module
 */
import type { Compressor } from "../base/compression.ts";
import { digestFromHex, digestHex } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { Dictionary, type DictionaryTable, dictionaryTable } from "../blob/dictionary.ts";
import type { BlobStore, Fetcher } from "../content/content.ts";
import { copyBlob } from "../image/copy-blob.ts";
import { type ImageLocation, type LocatedImage, locateImage } from "../image/location.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { ANNOTATION, MEDIA } from "../oci/media-types.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { Bootstrap } from "../rafs/bootstrap.ts";
import { BLOB_FEATURES } from "../rafs/flags.ts";
import { openImage } from "../rafs/image.ts";
import type { PackFormat } from "./packer.ts";

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

interface Opened {
  readonly located: LocatedImage;
  readonly bootstrap: Bootstrap;
}

/** Chunks can only be shared by images that cut and name them alike. */
type Format = Pick<PackFormat, "chunkSize" | "digester">;

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

  /** That of the first one. */
  get compressor(): Compressor {
    return this.#opened[0]?.bootstrap.superblock.compressor ?? "none";
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
    wanted: Partial<Format>,
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
  async provide({ id, compressedSize, features }: BlobInfo, places: ConversionPlaces): Promise<ProvidedBlob> {
    const { target, signal } = places;
    for (const { located, bootstrap } of this.#opened) {
      if (!bootstrap.blobs.some((blob) => blob.id === id)) continue;
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
    if (bootstrap.version === 6) return { located, bootstrap };
    throw new NydusError("unsupported", `Cannot use dictionary "${located.name}": it is RAFS v5`);
  } catch (error) {
    await located[Symbol.asyncDispose]();
    throw error;
  }
}

async function closeAll(opened: readonly Opened[]): Promise<void> {
  await Promise.all(opened.map(({ located }) => located[Symbol.asyncDispose]()));
}

const SAYINGS = {
  chunkSize: (value: unknown) => `its chunks have ${value} bytes`,
  digester: (value: unknown) => `its chunks are named by ${value}`,
} as const;

const FLAGS = { chunkSize: "--chunk-size", digester: "--digester" } as const;

function commonFormat(opened: readonly Opened[], wanted: Partial<Format>): Format {
  let format: Partial<Format> = wanted;
  for (const { located, bootstrap } of opened) {
    const { chunkSize, digester } = bootstrap.superblock;
    const own: Format = { chunkSize, digester };
    for (const key of ["chunkSize", "digester"] as const)
      if (format[key] !== undefined && format[key] !== own[key])
        throw new NydusError(
          "usage",
          `Cannot use dictionary "${located.name}": ${SAYINGS[key](own[key])}, not ${format[key]}; see ${FLAGS[key]}`,
        );
    format = own;
  }
  const { chunkSize, digester } = format;
  if (chunkSize === undefined || digester === undefined)
    throw new NydusError("internal", "Cannot open dictionaries: there are none");
  return { chunkSize, digester };
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
