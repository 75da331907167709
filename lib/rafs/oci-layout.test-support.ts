/**
 * Layers and bootstraps of images in OCI layouts: those that the reference tools wrote.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { readTar } from "../tar/reader.ts";

interface Json {
  readonly manifests: readonly { readonly digest: string }[];
  readonly layers: readonly { readonly digest: string }[];
}

/** `image/image.boot` of the last layer of the image in an OCI layout. */
export async function bootstrapOf(layout: string): Promise<Uint8Array> {
  const layers = layersOf(layout);
  for await (const { path, body } of readTar(pieces(layers.at(-1) ?? new Uint8Array()))) {
    if (path !== "image/image.boot") continue;
    const parts: Uint8Array[] = [];
    for await (const part of body) parts.push(part);
    return Buffer.concat(parts);
  }
  throw new Error(`${layout} has no bootstrap`);
}

/** The decompressed layers of an OCI layout. */
export function layersOf(layout: string): Uint8Array[] {
  const blob = (digest: string): Buffer => readFileSync(`${layout}/blobs/${digest.replace(":", "/")}`);
  const json = (bytes: Buffer): Json => JSON.parse(bytes.toString());
  const index = json(readFileSync(`${layout}/index.json`));
  const manifest = json(blob(index.manifests[0]?.digest ?? ""));
  return manifest.layers.map(({ digest }) => {
    const bytes = blob(digest);
    return bytes[0] === 0x1f && bytes[1] === 0x8b ? Bun.gunzipSync(bytes as Uint8Array<ArrayBuffer>) : bytes;
  });
}

export async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 65536) yield bytes.subarray(at, at + 65536);
}
