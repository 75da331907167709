/**
 * What a document in containerd's content store refers to, as labels: `gc.ref` labels are edges, and the garbage
 * collector keeps what a kept blob's labels name. A name that is not there does no harm.
 *
 * @module
 */
import type { Document } from "../oci/manifest.ts";

const PREFIX = "containerd.io/gc.ref.";

/** On a config: the snapshot that its image is unpacked to. */
export function snapshotEdge(snapshotter: string, chainId: string): Record<string, string> {
  return { [`${PREFIX}snapshot.${snapshotter}`]: chainId };
}

export function edgesOf(document: Document): Record<string, string> {
  if (document.kind === "index") return numbered("m", document.index.manifests);
  const { config, layers } = document.manifest;
  return { [`${PREFIX}content.config`]: config.digest, ...numbered("l", layers) };
}

/** On a snapshot: data that containers on it read, where the content store has it, stays also without the image's name. */
export function dataEdges(layers: readonly { readonly digest: string }[]): Record<string, string> {
  return numbered("l", layers);
}

function numbered(kind: string, targets: readonly { readonly digest: string }[]): Record<string, string> {
  return Object.fromEntries(targets.map(({ digest }, i) => [`${PREFIX}content.${kind}.${i}`, digest]));
}
