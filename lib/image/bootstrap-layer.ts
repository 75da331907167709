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
  const layer = image.manifest.layers.at(-1);
  if (layer === undefined) throw corrupt("Cannot read the bootstrap: the image has no layers");
  const what = `bootstrap layer "${layer.digest}"`;
  const { signal, limit = MAX_EXPANDED } = options;
  const body = await store.fetch(layer, signal === undefined ? {} : { signal });
  let found: Uint8Array | undefined;
  try {
    for await (const entry of readTar(capped(decompressed(body, what), limit, what)))
      if (found === undefined && isBootstrap(entry)) found = await collect(entry, layer);
  } catch (error) {
    throw toNydusError(error, `read ${what}`);
  }
  if (found !== undefined) return found;
  throw corrupt(`Cannot read ${what}: it has no image/image.boot`);
}

function isBootstrap({ kind, path }: TarEntry): boolean {
  return kind === "file" && PATHS.includes(path.replace(/^\.?\//, ""));
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
