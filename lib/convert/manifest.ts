/**
 * The manifest and config of a converted image: blob layers in the order of the layers they came from, the bootstrap
 * last. Wire contract of the reference's converter and snapshotter.
 *
 * @module
 */
import { type Digest, digestHex, digestOf } from "../base/digest.ts";
import type { ImageConfig } from "../oci/config.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { Manifest } from "../oci/manifest.ts";
import { ANNOTATION, MEDIA } from "../oci/media-types.ts";
import type { BlobInfo } from "../rafs/blob-table.ts";
import type { FsVersion } from "../rafs/image.ts";
import type { BootstrapLayer } from "./bootstrap-layer.ts";

/** Which family's media types to write. Blob layers have one type in both. */
export type MediaFamily = "oci" | "docker";

const FAMILIES = {
  oci: { manifest: MEDIA.ociManifest, config: MEDIA.ociConfig, bootstrap: MEDIA.ociLayerGzip },
  docker: { manifest: MEDIA.dockerManifest, config: MEDIA.dockerConfig, bootstrap: MEDIA.dockerLayerGzip },
} as const;

export interface ConvertedParts {
  readonly family: MediaFamily;
  readonly fsVersion: FsVersion;
  /** What was converted. */
  readonly source: { readonly digest?: Digest; readonly reference?: string };
  readonly annotations?: Readonly<Record<string, string>>;
  /** The image that it refers to. */
  readonly subject?: Descriptor | undefined;
  readonly config: ImageConfig;
  /** One a source layer, those without data included. */
  readonly blobs: readonly PackedBlob[];
  /** Layers of blobs that came with chunk dictionaries. */
  readonly dictionaryBlobs?: readonly Descriptor[];
  readonly bootstrap: BootstrapLayer;
}

export interface Document {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/** A blob as a layer of the converted image. */
interface PackedBlob {
  readonly digest: Digest;
  readonly size: number;
  /** The layer that has its data, where it has none itself. */
  readonly original?: Descriptor;
  readonly info: Pick<BlobInfo, "cipher"> | undefined;
}

export function blobDescriptor({ digest, size, original, info }: PackedBlob): Descriptor {
  const annotations = {
    [ANNOTATION.nydusBlob]: "true",
    ...(original === undefined ? {} : { [ANNOTATION.nydusRef]: original.digest }),
    ...(info?.cipher === undefined ? {} : { [ANNOTATION.nydusEncryptedBlob]: "true" }),
  };
  return { mediaType: MEDIA.nydusBlob, digest, size, annotations };
}

export function bootstrapDescriptor(
  parts: Pick<ConvertedParts, "bootstrap" | "family" | "fsVersion" | "dictionaryBlobs">,
): Descriptor {
  const { bootstrap, family, fsVersion, dictionaryBlobs = [] } = parts;
  const ids = dictionaryBlobs.map(({ digest, annotations }) =>
    digestHex((annotations?.[ANNOTATION.nydusRef] as Digest | undefined) ?? digest),
  );
  return {
    mediaType: FAMILIES[family].bootstrap,
    digest: bootstrap.digest,
    size: bootstrap.bytes.byteLength,
    annotations: {
      [ANNOTATION.nydusBootstrap]: "true",
      [ANNOTATION.nydusFsVersion]: `${fsVersion}`,
      ...(ids.length === 0 ? {} : { [ANNOTATION.nydusReferenceBlobIds]: JSON.stringify(ids) }),
    },
  };
}

/** Blob layers are not compressed as a whole: each is its own diff id. No time goes in: the same input, the same bytes. */
export function convertedConfig(parts: ConvertedParts): Document {
  const { config, blobs, dictionaryBlobs = [], bootstrap, family } = parts;
  const diffIds = [...[...blobs, ...dictionaryBlobs].map(({ digest }) => digest), bootstrap.diffId];
  const step = { created_by: "Nydus Converter", comment: "Nydus Bootstrap Layer" };
  const rewritten: ImageConfig = {
    ...config,
    rootfs: { type: "layers", diff_ids: diffIds },
    history: [...(config.history ?? []), step],
  };
  return document(rewritten, FAMILIES[family].config);
}

export function convertedManifest(parts: ConvertedParts, config: Descriptor): Document {
  const { family, source, dictionaryBlobs = [] } = parts;
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: FAMILIES[family].manifest,
    config,
    layers: [...parts.blobs.map(blobDescriptor), ...dictionaryBlobs, bootstrapDescriptor(parts)],
    ...(parts.subject === undefined ? {} : { subject: parts.subject }),
    annotations: {
      ...parts.annotations,
      [ANNOTATION.nydusFsVersion]: `${parts.fsVersion}`,
      ...(source.digest === undefined ? {} : { [ANNOTATION.nydusSourceDigest]: source.digest }),
      ...(source.reference === undefined ? {} : { [ANNOTATION.nydusSourceReference]: source.reference }),
    },
  };
  return document(manifest, manifest.mediaType);
}

export function document(value: object, mediaType: string): Document {
  const bytes = Buffer.from(JSON.stringify(value));
  return { bytes, descriptor: { mediaType, digest: digestOf(bytes), size: bytes.byteLength } };
}
