/** Names of manifests in a store that is not a registry: tags, and digests used as references. @module */

import { isDigest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";

export interface NamedManifest {
  readonly names: readonly string[];
  readonly descriptor: Descriptor;
}

/**
 * The manifest that a tag, a digest (with or without `@`) or nothing stands for. Nothing is enough when there is one
 * manifest only.
 *
 * @throws not_found, or usage when a tag is needed
 */
export function chooseManifest(
  manifests: readonly NamedManifest[],
  reference: string | undefined,
  store: string,
): Descriptor {
  if (reference === undefined || reference === "") return onlyManifest(manifests, store);
  const digest = reference.startsWith("@") ? reference.slice(1) : reference;
  const found = isDigest(digest)
    ? manifests.find(({ descriptor }) => descriptor.digest === digest)
    : manifests.find(({ names }) => names.includes(reference));
  if (found !== undefined) return found.descriptor;
  throw new NydusError("not_found", `Cannot find "${reference}" in ${store}: ${known(manifests)}`);
}

function onlyManifest(manifests: readonly NamedManifest[], store: string): Descriptor {
  const [first] = manifests;
  if (first === undefined) throw new NydusError("not_found", `Cannot find an image in ${store}: it is empty`);
  if (manifests.every(({ descriptor }) => descriptor.digest === first.descriptor.digest))
    return first.descriptor;
  throw new NydusError("usage", `Cannot choose an image in ${store}: ${known(manifests)}; name one of them`);
}

function known(manifests: readonly NamedManifest[]): string {
  const names = manifests.flatMap(({ names }) => names);
  if (names.length === 0) return `it has ${manifests.length} images and no tags`;
  const shown = names.slice(0, 8).join(", ");
  return `it has ${shown}${names.length > 8 ? ` and ${names.length - 8} more` : ""}`;
}
