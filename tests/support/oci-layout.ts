/**
 * Writes OCI layouts for tests, written apart from lib/content: layers from bytes, in any compression.
 *
 * @module
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StoredLayer } from "./toc-builder.ts";

export type LayerCompression = "gzip" | "zstd" | "none" | "gzip-members" | "zstd-frames";

export interface LayoutOptions {
  /** One a layer; the last one stands for the rest. */
  readonly compression?: readonly LayerCompression[];
  readonly tag?: string;
  /** Default 1: tests wait for it. */
  readonly gzipLevel?: 1 | 6;
  /** Default: this machine's. */
  readonly architecture?: string;
  /** The config's `config` member: Cmd, Env, Entrypoint. */
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface WrittenBlob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface WrittenLayout {
  readonly directory: string;
  readonly tag: string;
  readonly manifest: WrittenBlob;
  readonly layers: readonly WrittenBlob[];
}

const SUFFIX: Readonly<Record<LayerCompression, string>> = {
  gzip: "+gzip",
  "gzip-members": "+gzip",
  zstd: "+zstd",
  "zstd-frames": "+zstd",
  none: "",
};

function hexOf(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}

export function blobPath(layout: string, digest: string): string {
  return join(layout, "blobs", ...digest.split(":"));
}

function compressed(layer: Uint8Array, compression: LayerCompression, level: 1 | 6): Uint8Array {
  const bytes = layer as Uint8Array<ArrayBuffer>;
  // Parallel compressors write many members or frames one after the other; a reader that stops after one loses data.
  const middle = Math.floor(bytes.byteLength / 2);
  const halves = [bytes.subarray(0, middle), bytes.subarray(middle)];
  switch (compression) {
    case "gzip":
      return Bun.gzipSync(bytes, { level });
    case "gzip-members":
      return Buffer.concat(halves.map((half) => Bun.gzipSync(half, { level })));
    case "zstd":
      return Bun.zstdCompressSync(bytes, { level: 1 });
    case "zstd-frames":
      return Buffer.concat(halves.map((half) => Bun.zstdCompressSync(half, { level: 1 })));
    case "none":
      return bytes;
  }
}

async function writeBlob(layout: string, mediaType: string, bytes: Uint8Array): Promise<WrittenBlob> {
  const digest = `sha256:${hexOf(bytes)}`;
  await writeFile(blobPath(layout, digest), bytes);
  return { mediaType, digest, size: bytes.byteLength };
}

function tarBytes(layer: Uint8Array | StoredLayer): Uint8Array {
  return layer instanceof Uint8Array ? layer : layer.tar;
}

/** Layers are tars, or come with their compressed form. */
export async function writeLayout(
  directory: string,
  layers: readonly (Uint8Array | StoredLayer)[],
  options: LayoutOptions = {},
): Promise<WrittenLayout> {
  const { compression = ["gzip"], tag = "t", gzipLevel = 1, config = {} } = options;
  await mkdir(join(directory, "blobs", "sha256"), { recursive: true });
  const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  const written: WrittenBlob[] = [];
  for (const [i, layer] of layers.entries()) {
    if (!(layer instanceof Uint8Array)) {
      const { mediaType, stored, annotations } = layer;
      written.push({ ...(await writeBlob(directory, mediaType, stored)), annotations });
      continue;
    }
    const kind = compression[i] ?? compression.at(-1) ?? "gzip";
    const mediaType = `application/vnd.oci.image.layer.v1.tar${SUFFIX[kind]}`;
    written.push(await writeBlob(directory, mediaType, compressed(layer, kind, gzipLevel)));
  }
  const image = {
    created: "2024-05-01T00:00:00Z",
    architecture: options.architecture ?? (process.arch === "arm64" ? "arm64" : "amd64"),
    os: "linux",
    config,
    rootfs: { type: "layers", diff_ids: layers.map((layer) => `sha256:${hexOf(tarBytes(layer))}`) },
    history: layers.map((_, i) => ({ created: "2024-05-01T00:00:00Z", created_by: `layer ${i}` })),
  };
  const configBlob = await writeBlob(directory, "application/vnd.oci.image.config.v1+json", json(image));
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = await writeBlob(
    directory,
    mediaType,
    json({ schemaVersion: 2, mediaType, config: configBlob, layers: written }),
  );
  const named = { ...manifest, annotations: { "org.opencontainers.image.ref.name": tag } };
  await writeFile(join(directory, "index.json"), json({ schemaVersion: 2, manifests: [named] }));
  await writeFile(join(directory, "oci-layout"), json({ imageLayoutVersion: "1.0.0" }));
  return { directory, tag, manifest, layers: written };
}
