/** Manifests by tag or digest. @module */

import { digestOf, isDigest } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { readAll } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import { isTag } from "../oci/reference.ts";
import type { RegistryClient } from "./client.ts";
import { READ } from "./http.ts";
import { lookUp } from "./lookup.ts";
import { retrying } from "./retry.ts";
import { statusError } from "./status.ts";

export const MANIFEST_ACCEPT = [
  MEDIA.ociIndex,
  MEDIA.dockerIndex,
  MEDIA.ociManifest,
  MEDIA.dockerManifest,
  "*/*;q=0.1",
].join(", ");

export interface FetchedManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/**
 * One GET instead of HEAD and GET: a manifest that is asked about is read next anyway, and only its bytes prove the
 * digest.
 */
export async function fetchManifest(
  client: RegistryClient,
  reference: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<FetchedManifest> {
  const byDigest = isDigest(reference);
  if (!byDigest && !isTag(reference))
    throw new NydusError(
      "usage",
      `Cannot read "${reference.slice(0, 150)}" of "${client.name}": it is not a tag`,
    );
  const action = `read "${client.name}${byDigest ? "@" : ":"}${reference}"`;
  return retrying(client.retry, options.signal, async () => {
    const response = await lookUp(client.endpoints, {
      method: "GET",
      path: `manifests/${reference}`,
      capability: byDigest ? "pull" : "resolve",
      action,
      access: READ,
      headers: { accept: MANIFEST_ACCEPT },
      ...options,
    });
    if (response.status !== 200) throw await statusError(response, action);
    try {
      const bytes = await readAll(response.body, MANIFEST_SIZE_LIMIT, action.slice("read ".length));
      checkLength(response.headers.get("content-length"), bytes, action);
      const announced = byDigest ? reference : response.headers.get("docker-content-digest");
      return described(bytes, response.headers.get("content-type"), announced, action);
    } finally {
      await response.discard();
    }
  });
}

function checkLength(header: string | null, bytes: Uint8Array, action: string): void {
  if (header === null || Number(header) === bytes.byteLength) return;
  throw new NydusError(
    "unavailable",
    `Cannot ${action}: the body ended after ${bytes.byteLength} of ${header} bytes`,
  );
}

function described(
  bytes: Uint8Array,
  contentType: string | null,
  announced: string | null,
  action: string,
): FetchedManifest {
  const digest = digestOf(bytes);
  if (announced !== null && isDigest(announced) && announced !== digest)
    throw corrupt(`Cannot ${action}: its bytes have digest ${digest} instead of ${announced}`);
  const type = contentType?.split(";")[0]?.trim() ?? "";
  const document = parseDocument(bytes, type, action.slice("read ".length));
  const { mediaType } = document.kind === "index" ? document.index : document.manifest;
  return { descriptor: { mediaType, digest, size: bytes.byteLength }, bytes };
}
