/**
 * What refers to a manifest (OCI 1.1, `subject`): asked of the referrers API, and where a registry has none, of the tag
 * that stands for it. Spec: distribution-spec/spec.md, "Listing Referrers", "Referrers Tag Schema".
 *
 * @module
 */
import { type Digest, digestHex, digestOf } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import { readAll } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type Index, MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { RegistryClient } from "./client.ts";
import { READ } from "./http.ts";
import { putManifest } from "./pusher.ts";
import { fetchManifest } from "./resolver.ts";
import { retrying } from "./retry.ts";
import { statusError } from "./status.ts";

interface Options {
  readonly signal?: AbortSignal;
}

/** Those of one type, in the registry's order; where it has pages, those of the first. Empty when there are none. */
export async function fetchReferrers(
  client: RegistryClient,
  subject: Digest,
  artifactType: string,
  options: Options = {},
): Promise<readonly Descriptor[]> {
  const index =
    (await askApi(client, subject, artifactType, options)) ?? (await askTag(client, subject, options));
  return index.manifests.filter((entry) => entry.artifactType === artifactType);
}

/** Undefined when the registry does not have the API. */
async function askApi(
  client: RegistryClient,
  subject: Digest,
  artifactType: string,
  options: Options,
): Promise<Index | undefined> {
  const action = `list what refers to "${client.name}@${subject}"`;
  return await retrying(client.retry, options.signal, async () => {
    const url = client.url(`referrers/${subject}`);
    url.searchParams.set("artifactType", artifactType);
    const accept = { accept: MEDIA.ociIndex };
    const response = await client.send({
      method: "GET",
      url,
      action,
      access: READ,
      headers: accept,
      ...options,
    });
    try {
      if (response.status === 404) return undefined;
      if (response.status !== 200) throw await statusError(response, action);
      const bytes = await readAll(response.body, MANIFEST_SIZE_LIMIT, "the list of referrers");
      return indexOf(bytes, action);
    } finally {
      await response.discard();
    }
  });
}

const NONE: Index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] };

async function askTag(client: RegistryClient, subject: Digest, options: Options): Promise<Index> {
  try {
    const { bytes } = await fetchManifest(client, tagFor(subject), options);
    return indexOf(bytes, `list what refers to "${client.name}@${subject}"`);
  } catch (error) {
    if (isCode(error, "not_found")) return NONE;
    throw error;
  }
}

/** "sha256:<hex>" is no tag; this is. */
function tagFor(subject: Digest): string {
  return `sha256-${digestHex(subject)}`;
}

function indexOf(bytes: Uint8Array, action: string): Index {
  const document = parseDocument(bytes, MEDIA.ociIndex, action);
  return document.kind === "index" ? document.index : NONE;
}

/**
 * Pushes a manifest whose `subject` is in the repository, and makes sure that it is found.
 *
 * @param entry as it is listed: with its artifact type and its annotations
 */
export async function pushReferrer(
  client: RegistryClient,
  subject: Digest,
  entry: Descriptor,
  bytes: Uint8Array,
  options: Options = {},
): Promise<void> {
  const noticed = await putManifest(client, entry, bytes, entry.digest, options);
  // The registry answers with the subject's digest if it keeps the list itself.
  if (noticed === subject) return;
  const { manifests } = await askTag(client, subject, options);
  if (manifests.some(({ digest }) => digest === entry.digest)) return;
  const list = Buffer.from(JSON.stringify({ ...NONE, manifests: [...manifests, entry] }));
  const descriptor = { mediaType: MEDIA.ociIndex, digest: digestOf(list), size: list.byteLength };
  await putManifest(client, descriptor, list, tagFor(subject), options);
}
