/**
 * What an image's manifest says of its layers.
 *
 * @module
 */
import type { Image } from "../image/load.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import { formatPlatform } from "../oci/platform.ts";

export interface ManifestFacts {
  readonly digest: string;
  readonly mediaType: string;
  /** "linux/amd64" */
  readonly platform: string;
  /** Of the image that this one was converted from, when it is recorded. */
  readonly source?: { readonly digest: string; readonly reference?: string };
  /** Lowest first; the bootstrap is the last one. */
  readonly layers: readonly LayerFacts[];
}

export interface LayerFacts {
  readonly digest: string;
  /** Bytes as stored. */
  readonly size: number;
  readonly mediaType: string;
  readonly kind: "blob" | "bootstrap" | "other";
  /** Digest of the original layer that has the data of this one. */
  readonly reference?: string;
}

export function manifestFacts({ descriptor, manifest, config }: Image): ManifestFacts {
  const digest = manifest.annotations?.[ANNOTATION.nydusSourceDigest];
  const reference = manifest.annotations?.[ANNOTATION.nydusSourceReference];
  return {
    digest: descriptor.digest,
    mediaType: descriptor.mediaType,
    platform: formatPlatform(config),
    ...(digest === undefined ? {} : { source: { digest, ...(reference && { reference }) } }),
    layers: manifest.layers.map(({ digest, size, mediaType, annotations = {} }) => {
      const original = annotations[ANNOTATION.nydusRef];
      const kind = kindOf(annotations);
      return { digest, size, mediaType, kind, ...(original === undefined ? {} : { reference: original }) };
    }),
  };
}

function kindOf(annotations: Readonly<Record<string, string>>): LayerFacts["kind"] {
  if (annotations[ANNOTATION.nydusBootstrap] === "true") return "bootstrap";
  return annotations[ANNOTATION.nydusBlob] === "true" ? "blob" : "other";
}
