/**
 * What the labels of a snapshot say: which kind of layer it is and which image it belongs to. One pure function, so
 * that the decision is made in one place. Who writes which label: docs of containerd's `pkg/snapshotters` and of the
 * Nydus converter; the annotations of a layer arrive as labels under the same names.
 *
 * @module
 */
import { type Digest, isDigest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { ANNOTATION, SNAPSHOT_PREFIX } from "../oci/media-types.ts";

export type Labels = Readonly<Record<string, string>>;

export const LABEL = {
  /** The chain ID that a layer will be committed as. Its absence means: for a container (or a tool), not a layer. */
  target: "containerd.io/snapshot.ref",
  imageReference: `${SNAPSHOT_PREFIX}cri.image-ref`,
  manifestDigest: `${SNAPSHOT_PREFIX}cri.manifest-digest`,
  layerDigest: `${SNAPSHOT_PREFIX}cri.layer-digest`,
  imageLayers: `${SNAPSHOT_PREFIX}cri.image-layers`,
  /** containerd 2.4 on; of a data layer it is the blob's digest. */
  diffId: `${SNAPSHOT_PREFIX}diff-id`,
  /**
   * Our own `pull` marks layers so whose tables of contents are named by annotations that are no labels (podman's
   * zstd:chunked).
   */
  toc: `${SNAPSHOT_PREFIX}nydus-toc`,
  /** BuildKit names the image so. */
  stargzReference: `${SNAPSHOT_PREFIX}remote/stargz.reference`,
  username: `${SNAPSHOT_PREFIX}pullusername`,
  secret: `${SNAPSHOT_PREFIX}pullsecret`,
  volatile: `${SNAPSHOT_PREFIX}overlay.volatile`,
  /** "container:host:count", for containers in a user namespace. */
  uidMapping: `${SNAPSHOT_PREFIX}uidmapping`,
  gidMapping: `${SNAPSHOT_PREFIX}gidmapping`,
} as const;

/**
 * - `plain`: an ordinary layer, unpacked by containerd, or the writable layer of a container
 * - `nydus-data`: a blob of chunks; never downloaded as a whole
 * - `nydus-bootstrap`: holds `image/image.boot`, the metadata of the whole image up to here; unpacked by containerd, or
 *   made by us for layers with a table of contents
 */
export type LayerKind = "plain" | "nydus-data" | "nydus-bootstrap";

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

export interface Purpose {
  /** Chain ID of the layer that is being made. */
  readonly target?: string;
  readonly layer: LayerKind;
  /** The layer can be mounted by its table of contents (eStargz, zstd:chunked), if all below it can be, too. */
  readonly hasToc: boolean;
  /** Of the image's manifest. */
  readonly manifest?: Digest;
  readonly reference?: string;
  /** Digest of the layer's blob in the registry. */
  readonly blob?: Digest;
  readonly credentials?: Credentials;
  readonly volatile: boolean;
  readonly uidMapping?: string;
  readonly gidMapping?: string;
}

export function purposeOf(labels: Labels): Purpose {
  const target = labels[LABEL.target];
  const layer = target === undefined ? "plain" : layerKind(labels);
  const reference = labels[LABEL.imageReference] ?? labels[LABEL.stargzReference];
  const manifest = labels[LABEL.manifestDigest] ?? "";
  const blob = labels[LABEL.layerDigest] ?? (layer === "nydus-data" ? labels[LABEL.diffId] : undefined);
  const [username, password] = [labels[LABEL.username], labels[LABEL.secret]];
  return {
    layer,
    hasToc:
      layer === "plain" &&
      target !== undefined &&
      isDigest(labels[ANNOTATION.stargzTocDigest] ?? labels[LABEL.toc] ?? ""),
    ...(isDigest(manifest) ? { manifest } : {}),
    // Layers carry annotations that image authors write; how a container is mounted is not for them to say.
    ...(target === undefined ? containerOptions(labels) : { volatile: false, target }),
    ...(reference === undefined || reference === "" ? {} : { reference }),
    ...(blob !== undefined && isDigest(blob) ? { blob } : {}),
    ...(username === undefined || password === undefined ? {} : { credentials: { username, password } }),
  };
}

const MAPPING = /^\d+:\d+:\d+(,\d+:\d+:\d+)*$/;

/** @throws usage for a mapping that is none: it would become part of mount options */
function containerOptions(labels: Labels): Pick<Purpose, "volatile" | "uidMapping" | "gidMapping"> {
  const [uidMapping, gidMapping] = [labels[LABEL.uidMapping], labels[LABEL.gidMapping]];
  for (const mapping of [uidMapping, gidMapping]) {
    if (mapping !== undefined && !MAPPING.test(mapping))
      throw new NydusError(
        "usage",
        `Cannot use id mapping "${mapping.slice(0, 100)}": it is not in:host:count`,
      );
  }
  return {
    volatile: labels[LABEL.volatile] !== undefined,
    ...(uidMapping === undefined ? {} : { uidMapping }),
    ...(gidMapping === undefined ? {} : { gidMapping }),
  };
}

/** The bootstrap's mark wins: a layer that has it must be unpacked whatever else it claims. */
function layerKind(labels: Labels): LayerKind {
  if (ANNOTATION.nydusBootstrap in labels) return "nydus-bootstrap";
  if (ANNOTATION.nydusBlob in labels) return "nydus-data";
  return "plain";
}

/** Labels as they may be stored: credentials stay in memory. */
export function withoutSecrets(labels: Labels): Labels {
  const { [LABEL.username]: _username, [LABEL.secret]: _secret, ...rest } = labels;
  return rest;
}

/**
 * Labels after a change of those that `paths` names ("labels", "labels.<key>"), of all without paths. An empty value
 * removes a label.
 */
export function changedLabels(old: Labels, changes: Labels, paths: readonly string[]): Labels {
  const whole = paths.length === 0 || paths.includes("labels");
  const named = paths
    .filter((path) => path.startsWith("labels."))
    .map((path) => path.slice("labels.".length));
  const changed = whole
    ? changes
    : { ...old, ...Object.fromEntries(named.map((n) => [n, changes[n] ?? ""])) };
  return withoutSecrets(Object.fromEntries(Object.entries(changed).filter(([, value]) => value !== "")));
}
