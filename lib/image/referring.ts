/**
 * The Nydus image that refers to an ordinary one. Whoever may push to a repository can put one there for any image of
 * it, whatever the image's digest says, so nobody is given one without asking.
 *
 * @module
 */
import { type Digest, digestHex } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import type { ImageStore } from "../content/content.ts";
import { readBlob } from "../content/read.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, type Manifest, parseDocument } from "../oci/manifest.ts";
import { ANNOTATION, ARTIFACT, MEDIA } from "../oci/media-types.ts";
import type { RegistryStore } from "../registry/store.ts";
import { registryOf } from "./local-first.ts";

export interface FoundManifest {
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

/** What converters call a Nydus image that has a subject: by its config, mostly. */
const TYPES = [MEDIA.ociConfig, ARTIFACT.nydusManifest];
/** Candidates that are looked at. */
const MOST = 16;

/** @returns undefined when there is none, or the store is no registry */
export async function nydusReferrer(
  store: ImageStore,
  image: Digest,
  options: { readonly signal?: AbortSignal } = {},
): Promise<FoundManifest | undefined> {
  const registry = registryOf(store);
  if (registry === undefined) return undefined;
  for (const type of TYPES) {
    for (const candidate of (await registry.referrers(image, type, options)).slice(0, MOST)) {
      const found = await read(registry, candidate, options);
      if (found !== undefined && refers(found.manifest, image)) return found;
    }
  }
  return undefined;
}

async function read(
  store: RegistryStore,
  { mediaType, digest, size }: Descriptor,
  options: { readonly signal?: AbortSignal },
): Promise<FoundManifest | undefined> {
  const descriptor = { mediaType, digest, size };
  try {
    const bytes = await readBlob(store, descriptor, {
      limit: MANIFEST_SIZE_LIMIT,
      what: "the manifest",
      ...options,
    });
    const found = parseDocument(bytes, mediaType, `referrer ${digestHex(digest)}`);
    return found.kind === "manifest" ? { descriptor, manifest: found.manifest, bytes } : undefined;
  } catch (error) {
    // Listed, but gone or damaged: the others may be well.
    if (isCode(error, "not_found") || isCode(error, "corrupt") || isCode(error, "unsupported"))
      return undefined;
    throw error;
  }
}

/** The registry only says so. */
function refers({ subject, layers }: Manifest, image: Digest): boolean {
  return subject?.digest === image && layers.at(-1)?.annotations?.[ANNOTATION.nydusBootstrap] === "true";
}
