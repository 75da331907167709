/**
 * Manifest and config of an image that is an ordinary one again.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import type { History, ImageConfig } from "../oci/config.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { Manifest } from "../oci/manifest.ts";
import { MEDIA, SNAPSHOT_PREFIX } from "../oci/media-types.ts";
import { hostPlatform } from "../oci/platform.ts";
import { type Document, document, type MediaFamily } from "./manifest.ts";

export const LAYER_TYPES: Readonly<Record<MediaFamily, string>> = {
  oci: MEDIA.ociLayerGzip,
  docker: MEDIA.dockerLayerGzip,
};

export interface ReversedLayer {
  readonly descriptor: Descriptor;
  /** Of the uncompressed tar. */
  readonly diffId: Digest;
}

/** @param config of the Nydus image; without one (a bootstrap file) a bare one for this machine */
export function reversedConfig(
  config: ImageConfig | undefined,
  layers: readonly ReversedLayer[],
  family: MediaFamily,
): Document {
  const { architecture, os } = hostPlatform();
  const base = config ?? { architecture, os, config: {}, rootfs: { type: "layers", diff_ids: [] } };
  const rewritten: ImageConfig = {
    ...base,
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: reversedHistory(config?.history ?? [], layers.length),
  };
  return document(rewritten, family === "oci" ? MEDIA.ociConfig : MEDIA.dockerConfig);
}

/** One step must stand for each layer. Where the layers are others than before, the old steps keep only their words. */
function reversedHistory(history: readonly History[], layers: number): readonly History[] {
  const steps = history.filter(({ comment }) => comment !== "Nydus Bootstrap Layer");
  if (steps.filter(({ empty_layer }) => empty_layer !== true).length === layers) return steps;
  const made = { created_by: "nydus-tool convert --reverse" };
  return [
    ...steps.map((step) => ({ ...step, empty_layer: true })),
    ...Array.from({ length: layers }, () => made),
  ];
}

export function reversedManifest(
  manifest: Manifest | undefined,
  layers: readonly ReversedLayer[],
  config: Descriptor,
  family: MediaFamily,
): Document {
  const kept = Object.entries(manifest?.annotations ?? {}).filter(
    ([key]) => !key.startsWith(SNAPSHOT_PREFIX),
  );
  const mediaType = family === "oci" ? MEDIA.ociManifest : MEDIA.dockerManifest;
  const reversed: Manifest = {
    schemaVersion: 2,
    mediaType,
    config,
    layers: layers.map(({ descriptor }) => descriptor),
    ...(kept.length === 0 ? {} : { annotations: Object.fromEntries(kept) }),
  };
  return document(reversed, mediaType);
}
