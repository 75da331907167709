/**
 * Takes the bootstrap out of a Nydus image's last layer.
 *
 * @module
 */
import { byteStringOf, printable } from "../base/byte-string.ts";
import { corrupt, toNydusError } from "../base/error.ts";
import type { Fetcher } from "../content/content.ts";
import { decompressed } from "../content/decompress.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { readTar, type TarEntry } from "../tar/reader.ts";
import type { Image } from "./load.ts";

/** A bootstrap of some ten million files; it is held in memory. */
const MAX_BOOTSTRAP = 2 ** 30;
/** What a layer may expand to: besides the bootstrap it can hold tables of its blobs, which are smaller. */
const MAX_EXPANDED = 2 * MAX_BOOTSTRAP;

/** Newer images, and those of the first years. */
const PATHS: readonly string[] = ["image/image.boot", "image.boot"].map(byteStringOf);
const BLOB_TABLE = /^image\/[0-9a-f]{64}\.blob\.meta$/;

export interface ReadBootstrapOptions {
  readonly signal?: AbortSignal;
  /** Bytes that the layer may expand to. */
  readonly limit?: number;
}

/** Bytes of the bootstrap. The layer is read to its end, so that its digest is verified. @throws corrupt */
export async function readBootstrapLayer(
  store: Fetcher,
  image: Pick<Image, "manifest">,
  options: ReadBootstrapOptions = {},
): Promise<Uint8Array> {
  const [found] = await readEntries(store, image, options, (path) => PATHS.includes(path));
  if (found !== undefined) return found.bytes;
  const { digest } = bootstrapOf(image);
  throw corrupt(`Cannot read bootstrap layer "${digest}": it has no image/image.boot`);
}

/** Bytes of a file in the layer, by its path without a leading "/". */
export interface LayerFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Tables of the image's blobs that lie beside its bootstrap. Each is the reference's affair: nothing is checked. */
export async function readBlobTables(
  store: Fetcher,
  image: Pick<Image, "manifest">,
  options: ReadBootstrapOptions = {},
): Promise<LayerFile[]> {
  return await readEntries(store, image, options, (path) => BLOB_TABLE.test(path));
}

function bootstrapOf({ manifest }: Pick<Image, "manifest">): Descriptor {
  const layer = manifest.layers.at(-1);
  if (layer !== undefined) return layer;
  throw corrupt("Cannot read the bootstrap: the image has no layers");
}

/** The first file under each wanted path. */
async function readEntries(
  store: Fetcher,
  image: Pick<Image, "manifest">,
  { signal, limit = MAX_EXPANDED }: ReadBootstrapOptions,
  wanted: (path: string) => boolean,
): Promise<LayerFile[]> {
  const layer = bootstrapOf(image);
  const what = `bootstrap layer "${layer.digest}"`;
  const body = await store.fetch(layer, signal === undefined ? {} : { signal });
  const found = new Map<string, Uint8Array>();
  try {
    for await (const entry of readTar(capped(decompressed(body, what), limit, what))) {
      const path = entry.path.replace(/^\.?\//, "");
      if (entry.kind === "file" && wanted(path) && !found.has(path))
        found.set(path, await collect(entry, layer));
    }
  } catch (error) {
    throw toNydusError(error, `read ${what}`);
  }
  return Array.from(found, ([path, bytes]) => ({ path, bytes }));
}

/** The size in the header is the attacker's: memory grows with the bytes that really come. */
async function collect(entry: TarEntry, layer: Descriptor): Promise<Uint8Array> {
  if (entry.size > MAX_BOOTSTRAP)
    throw corrupt(
      `Cannot read "${printable(entry.path)}" of layer "${layer.digest}": it has ${entry.size} bytes`,
    );
  const parts: Uint8Array[] = [];
  for await (const bytes of entry.body) parts.push(bytes);
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts, entry.size);
}

/** A few kilobytes can expand to any size. */
async function* capped(
  source: AsyncIterable<Uint8Array>,
  limit: number,
  what: string,
): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const piece of source) {
    size += piece.byteLength;
    if (size > limit) throw corrupt(`Cannot read ${what}: it expands to more than ${limit} bytes`);
    yield piece;
  }
}
