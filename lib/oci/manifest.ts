/**
 * Manifests and indexes, OCI and Docker schema 2 alike: parsed from bytes that came from outside, and checked.
 * Spec: image-spec/manifest.md, image-index.md.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import { type Descriptor, parseDescriptor } from "./descriptor.ts";
import { parseJsonObject, stringRecord } from "./json.ts";
import { isIndexType, isManifestType, MEDIA } from "./media-types.ts";

/** The size that distribution-spec asks every registry to accept. */
export const MANIFEST_SIZE_LIMIT = 4 * 2 ** 20;
/** No kernel stacks near this many layers; a cap before work grows with a hostile list. */
export const LAYER_LIMIT = 1024;
const INDEX_LIMIT = 4096;

export interface Manifest {
  readonly schemaVersion: 2;
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Index {
  readonly schemaVersion: 2;
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly manifests: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}

export type Document =
  | { readonly kind: "manifest"; readonly manifest: Manifest }
  | { readonly kind: "index"; readonly index: Index };

/**
 * @param mediaType what the descriptor or the Content-Type header said; empty = unknown
 * @param where names the document for errors
 * @throws corrupt, or unsupported for the long obsolete schema 1
 */
export function parseDocument(bytes: Uint8Array, mediaType: string, where: string): Document {
  if (bytes.byteLength > MANIFEST_SIZE_LIMIT)
    throw corrupt(`Cannot read ${where}: it is larger than ${MANIFEST_SIZE_LIMIT} bytes`);
  const json = parseJsonObject(bytes, where);
  if (json.schemaVersion === 1)
    throw new NydusError("unsupported", `Cannot read ${where}: it is a Docker schema 1 manifest`);
  if (json.schemaVersion !== 2) throw corrupt(`Cannot read ${where}: its schemaVersion is not 2`);
  const type = agreedType(json, mediaType, where);
  return isIndexType(type)
    ? { kind: "index", index: parseIndex(json, type, where) }
    : { kind: "manifest", manifest: parseManifest(json, type, where) };
}

/**
 * The same bytes must not mean a manifest to one reader and an index to another (CVE-2021-41190): a document that
 * has the lists of both, or names another type than its descriptor, is refused.
 */
function agreedType(json: Readonly<Record<string, unknown>>, outer: string, where: string): string {
  const inner = typeof json.mediaType === "string" ? json.mediaType : "";
  const known = (type: string): boolean => isManifestType(type) || isIndexType(type);
  if (known(inner) && known(outer) && inner !== outer)
    throw corrupt(`Cannot read ${where}: it says it is ${inner}, and was announced as ${outer}`);
  const looksLike = "manifests" in json ? MEDIA.ociIndex : MEDIA.ociManifest;
  if ("manifests" in json && ("layers" in json || "config" in json))
    throw corrupt(`Cannot read ${where}: it is a manifest and an index at once`);
  const type = known(inner) ? inner : known(outer) ? outer : looksLike;
  if (isIndexType(type) !== isIndexType(looksLike))
    throw corrupt(`Cannot read ${where}: its content does not fit its media type ${type}`);
  return type;
}

function parseManifest(json: Readonly<Record<string, unknown>>, mediaType: string, where: string): Manifest {
  const { layers, subject } = json;
  if (!Array.isArray(layers)) throw corrupt(`Cannot read ${where}: it has no list of layers`);
  if (layers.length > LAYER_LIMIT)
    throw corrupt(`Cannot read ${where}: it has ${layers.length} layers, more than ${LAYER_LIMIT}`);
  return {
    schemaVersion: 2,
    mediaType,
    ...common(json),
    config: parseDescriptor(json.config, where),
    layers: layers.map((layer) => parseDescriptor(layer, where)),
    ...(subject === undefined || subject === null ? {} : { subject: parseDescriptor(subject, where) }),
  };
}

function parseIndex(json: Readonly<Record<string, unknown>>, mediaType: string, where: string): Index {
  const { manifests } = json;
  if (!Array.isArray(manifests)) throw corrupt(`Cannot read ${where}: it has no list of manifests`);
  if (manifests.length > INDEX_LIMIT)
    throw corrupt(`Cannot read ${where}: it has ${manifests.length} manifests, more than ${INDEX_LIMIT}`);
  return {
    schemaVersion: 2,
    mediaType,
    ...common(json),
    manifests: manifests.map((manifest) => withType(parseDescriptor(manifest, where))),
  };
}

/** Some converters leave the type of an entry empty; it is a manifest then, and must be asked for as one. */
function withType(entry: Descriptor): Descriptor {
  return entry.mediaType === "" ? { ...entry, mediaType: MEDIA.ociManifest } : entry;
}

function common(json: Readonly<Record<string, unknown>>): Pick<Index, "artifactType" | "annotations"> {
  const annotations = stringRecord(json.annotations);
  return {
    ...(typeof json.artifactType === "string" ? { artifactType: json.artifactType } : {}),
    ...(annotations === undefined ? {} : { annotations }),
  };
}
