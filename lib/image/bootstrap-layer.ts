/**
 * Takes the bootstrap out of a Nydus image's last layer.
 *
 * @module
 */
import { pipeline, Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { byteStringOf } from "../base/byte-string.ts";
import { corrupt, toNydusError } from "../base/error.ts";
import type { Fetcher } from "../content/content.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { readTar } from "../tar/reader.ts";
import type { Image } from "./load.ts";

/** A bootstrap of some ten million files; it is held in memory. */
const MAX_BOOTSTRAP = 2 ** 30;

/** Newer images, and those of the first years. */
const PATHS: readonly string[] = ["image/image.boot", "image.boot"].map(byteStringOf);

/** Bytes of the bootstrap. The layer is read to its end, so that its digest is verified. @throws corrupt */
export async function readBootstrapLayer(
  store: Fetcher,
  image: Pick<Image, "manifest">,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Uint8Array> {
  const layer = image.manifest.layers.at(-1);
  if (layer === undefined) throw corrupt("Cannot read the bootstrap: the image has no layers");
  const body = await store.fetch(layer, options);
  let found: Uint8Array | undefined;
  try {
    for await (const entry of readTar(decompress(body, layer))) {
      if (found === undefined && entry.kind === "file" && PATHS.includes(entry.path.replace(/^\.?\//, ""))) {
        found = await collect(entry.body, entry.size, layer);
      }
    }
  } catch (error) {
    throw toNydusError(error, `read the bootstrap layer "${layer.digest}"`);
  }
  if (found !== undefined) return found;
  throw corrupt(`Cannot read the bootstrap layer "${layer.digest}": it has no image/image.boot`);
}

async function collect(
  body: AsyncIterable<Uint8Array>,
  size: number,
  layer: Descriptor,
): Promise<Uint8Array> {
  if (size > MAX_BOOTSTRAP)
    throw corrupt(`Cannot read the bootstrap of layer "${layer.digest}": it has ${size} bytes`);
  const whole = new Uint8Array(size);
  let at = 0;
  for await (const bytes of body) {
    whole.set(bytes, at);
    at += bytes.byteLength;
  }
  return whole;
}

/** gzip by default, zstd and plain as some builders do: the first bytes decide. */
async function* decompress(body: ReadableStream<Uint8Array>, layer: Descriptor): AsyncGenerator<Uint8Array> {
  const source = Readable.from(body as unknown as AsyncIterable<Uint8Array>);
  const first = await firstBytes(source);
  const zstd = first[0] === 0x28 && first[1] === 0xb5;
  const gzip = first[0] === 0x1f && first[1] === 0x8b;
  const input = Readable.from(prefixed(first, source));
  if (!zstd && !gzip) return yield* input as AsyncIterable<Uint8Array>;
  const transform = zstd ? createZstdDecompress() : createGunzip();
  pipeline(input, transform, () => {});
  try {
    yield* transform as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw corrupt(
      `Cannot decompress layer "${layer.digest}": ${error instanceof Error ? error.message : error}`,
      {
        cause: error,
      },
    );
  }
}

async function firstBytes(source: Readable): Promise<Uint8Array> {
  const { value } = (await source[Symbol.asyncIterator]().next()) as IteratorResult<Uint8Array, undefined>;
  return value ?? new Uint8Array();
}

async function* prefixed(first: Uint8Array, rest: Readable): AsyncGenerator<Uint8Array> {
  yield first;
  yield* rest as AsyncIterable<Uint8Array>;
}
