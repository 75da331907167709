/**
 * Lists of what a start reads, kept beside an image: an artifact in the image's repository whose subject is the image's
 * manifest, with the list as its one layer. Anybody who may write there can put one; the worst that it can do is to
 * have parts of the image fetched that nobody needs.
 *
 * @module
 */
import { type Digest, digestOf } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { encodeTrace, parseTrace, type Trace } from "../blob/trace.ts";
import { readBlob } from "../content/read.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeJson } from "../oci/json.ts";
import { MANIFEST_SIZE_LIMIT, type Manifest, parseDocument } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { RegistryStore } from "../registry/store.ts";

export const LIST_TYPE = "application/vnd.nydus-tool.prefetch-list.v1+json";
const CREATED = "org.opencontainers.image.created";
/** A list of ten thousand ranges is a twentieth of this. */
const MAX_LIST = 4 << 20;
/** What stands for a config in artifacts that have none. */
const EMPTY = Buffer.from("{}");

interface Options {
  readonly signal?: AbortSignal;
}

/** The newest list of an image, or undefined. @throws corrupt, and what the registry throws */
export async function fetchList(
  store: RegistryStore,
  image: Digest,
  options: Options = {},
): Promise<Trace | undefined> {
  const layer = await newestLayer(store, image, options);
  if (layer === undefined) return undefined;
  return parseTrace(await readBlob(store, layer, { limit: MAX_LIST, what: "the list", ...options }));
}

/**
 * @param created when the list was made; the newest one counts
 * @returns false when the image has this list already. @throws denied when the registry may only be read
 */
export async function pushList(
  store: RegistryStore,
  image: Descriptor,
  trace: Trace,
  { created, ...options }: Options & { readonly created: Date },
): Promise<boolean> {
  const bytes = encodeTrace(trace);
  if (bytes.byteLength > MAX_LIST)
    throw corrupt(`Cannot keep a list of ${bytes.byteLength} bytes beside an image: it is larger than 4 MiB`);
  const layer = { mediaType: LIST_TYPE, digest: digestOf(bytes), size: bytes.byteLength };
  const newest = await newestLayer(store, image.digest, options);
  if (newest?.digest === layer.digest) return false;
  const { mediaType, digest, size } = image;
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    artifactType: LIST_TYPE,
    config: { mediaType: MEDIA.ociEmpty, digest: digestOf(EMPTY), size: EMPTY.byteLength },
    layers: [layer],
    subject: { mediaType, digest, size },
    annotations: { [CREATED]: created.toISOString() },
  };
  await store.push(layer, streamOf(bytes), options);
  if (!(await store.has(manifest.config, options)))
    await store.push(manifest.config, streamOf(EMPTY), options);
  const document = encodeJson(manifest);
  const { annotations = {} } = manifest;
  const entry: Descriptor = {
    mediaType: MEDIA.ociManifest,
    digest: digestOf(document),
    size: document.byteLength,
    artifactType: LIST_TYPE,
    annotations,
  };
  await store.attach(image.digest, entry, document, options);
  return true;
}

async function newestLayer(
  store: RegistryStore,
  image: Digest,
  options: Options,
): Promise<Descriptor | undefined> {
  const entries = await store.referrers(image, LIST_TYPE, options);
  const createdAt = ({ annotations }: Descriptor): string => annotations?.[CREATED] ?? "";
  const newest = entries.toSorted((a, b) => (createdAt(a) < createdAt(b) ? -1 : 1)).at(-1);
  if (newest === undefined) return undefined;
  const limits = { limit: MANIFEST_SIZE_LIMIT, what: "the list's manifest", ...options };
  const document = parseDocument(await readBlob(store, newest, limits), newest.mediaType, newest.digest);
  const layers = document.kind === "manifest" ? document.manifest.layers : [];
  return layers.find(({ mediaType }) => mediaType === LIST_TYPE);
}
