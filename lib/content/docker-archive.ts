/**
 * What `docker save` writes, read only. Its images have no manifests of their own: an OCI manifest is made up from
 * `manifest.json` and the config. A layer that is a plain tar has its diff id for digest, so nothing needs hashing
 * before it is read.
 *
 * @module
 */
import { type Digest, Digester, digestOf } from "../base/digest.ts";
import { corrupt, NydusError } from "../base/error.ts";
import { CONFIG_SIZE_LIMIT, parseConfig } from "../oci/config.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeJson } from "../oci/json.ts";
import { LAYER_LIMIT, MANIFEST_SIZE_LIMIT, type Manifest } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import { ArchiveFile } from "./archive-file.ts";
import type { FetchOptions, ImageStore } from "./content.ts";
import { chooseManifest, type NamedManifest } from "./names.ts";
import { ReadOnlyStore } from "./read-only.ts";
import type { TarFile } from "./tar-index.ts";
import { checkRange, readAll, streamOf, verified } from "./verified.ts";

/** One image of `manifest.json`. */
interface SavedImage {
  readonly config: string;
  readonly tags: readonly string[];
  readonly layers: readonly string[];
}

export class DockerArchive extends ReadOnlyStore implements ImageStore {
  readonly name: string;
  readonly #archive: ArchiveFile;
  readonly #saved: readonly SavedImage[];
  /** Manifests and configs, then layers: known once an image has been resolved. */
  readonly #documents = new Map<Digest, Uint8Array>();
  readonly #layers = new Map<Digest, TarFile>();
  readonly #described = new Map<SavedImage, Promise<NamedManifest>>();

  private constructor(archive: ArchiveFile, saved: readonly SavedImage[]) {
    super();
    this.#archive = archive;
    this.#saved = saved;
    this.name = `docker-archive:${archive.path}`;
  }

  /** @throws not_found, corrupt */
  static async open(path: string): Promise<DockerArchive> {
    const archive = await ArchiveFile.open(path);
    const bytes = await archive.read("manifest.json", MANIFEST_SIZE_LIMIT);
    return new DockerArchive(archive, parseSaved(bytes, path));
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const { range, signal } = options;
    signal?.throwIfAborted();
    const { digest } = descriptor;
    // Another process may have resolved the image.
    if (!(await this.has(descriptor))) await this.#describeAll();
    const document = this.#documents.get(digest);
    const layer = this.#layers.get(digest);
    const size = document?.byteLength ?? layer?.size;
    if (size === undefined)
      throw new NydusError("not_found", `Cannot read "${digest}" from ${this.name}: it is not there`);
    const part = range ?? { start: 0, end: size };
    checkRange(part, size, digest, this.name);
    const body =
      document !== undefined
        ? streamOf(document.subarray(part.start, part.end))
        : this.#archive.stream(layer ?? { offset: 0, size: 0 }, part, signal);
    return range === undefined ? verified(body, descriptor, this.name) : body;
  }

  async has({ digest }: Descriptor): Promise<boolean> {
    return this.#documents.has(digest) || this.#layers.has(digest);
  }

  /** By tag ("alpine", "docker.io/library/alpine:latest"), digest, or place in the archive ("@0"). */
  async resolve(reference?: string): Promise<Descriptor> {
    const place = /^@(\d{1,6})$/.exec(reference ?? "")?.[1];
    if (place !== undefined) {
      const saved = this.#saved[Number(place)];
      if (saved !== undefined) return (await this.#describe(saved)).descriptor;
      throw new NydusError(
        "not_found",
        `Cannot find image @${place} in ${this.name}: it has ${this.#saved.length}`,
      );
    }
    const all = await this.#describeAll();
    const known = all.some(({ names }) => reference !== undefined && names.includes(reference));
    return chooseManifest(all, known ? reference : fullName(reference), this.name);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #describeAll(): Promise<readonly NamedManifest[]> {
    const all: NamedManifest[] = [];
    for (const saved of this.#saved) all.push(await this.#describe(saved));
    return all;
  }

  /** Compressed layers are hashed for it, once. */
  #describe(saved: SavedImage): Promise<NamedManifest> {
    const known = this.#described.get(saved) ?? this.#makeUp(saved);
    this.#described.set(saved, known);
    return known;
  }

  async #makeUp(saved: SavedImage): Promise<NamedManifest> {
    const configBytes = await this.#archive.read(saved.config, CONFIG_SIZE_LIMIT);
    const config = parseConfig(configBytes, `config "${saved.config}" of ${this.name}`);
    const diffIds = config.rootfs.diff_ids;
    if (diffIds.length !== saved.layers.length)
      throw corrupt(
        `Cannot read ${this.name}: "${saved.config}" names ${diffIds.length} layers, manifest.json ${saved.layers.length}`,
      );
    const layers: Descriptor[] = [];
    for (const [i, diffId] of diffIds.entries())
      layers.push(await this.#layer(saved.layers[i] ?? "", diffId));
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: MEDIA.ociManifest,
      config: this.#document(configBytes, MEDIA.ociConfig),
      layers,
    };
    return {
      names: saved.tags.flatMap((tag) => [...new Set([tag, fullName(tag) ?? tag])]),
      descriptor: this.#document(encodeJson(manifest), MEDIA.ociManifest),
    };
  }

  #document(bytes: Uint8Array, mediaType: string): Descriptor {
    const digest = digestOf(bytes);
    this.#documents.set(digest, bytes);
    return { mediaType, digest, size: bytes.byteLength };
  }

  async #layer(name: string, diffId: Digest): Promise<Descriptor> {
    const place = this.#archive.find(name);
    if (place === undefined) throw corrupt(`Cannot read ${this.name}: it has no layer "${name}"`);
    const mediaType = await this.#layerType(place);
    const digest = mediaType === MEDIA.ociLayer ? diffId : await this.#hash(place);
    this.#layers.set(digest, place);
    return { mediaType, digest, size: place.size };
  }

  async #layerType(place: TarFile): Promise<string> {
    const head = await readAll(
      this.#archive.stream(place, { start: 0, end: Math.min(4, place.size) }),
      4,
      "a layer",
    );
    if (head[0] === 0x1f && head[1] === 0x8b) return MEDIA.ociLayerGzip;
    const zstd = head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd;
    return zstd ? MEDIA.ociLayerZstd : MEDIA.ociLayer;
  }

  async #hash(place: TarFile): Promise<Digest> {
    const digester = new Digester();
    for await (const part of this.#archive.stream(place, { start: 0, end: place.size }))
      digester.update(part);
    return digester.finish();
  }
}

/** "alpine" is "docker.io/library/alpine:latest"; what is no reference stays as it is. */
function fullName(name: string | undefined): string | undefined {
  if (name === undefined || name.startsWith("@") || name.startsWith("sha256:")) return name;
  try {
    return formatReference(parseReference(name));
  } catch {
    return name;
  }
}

function parseSaved(bytes: Uint8Array, path: string): readonly SavedImage[] {
  const bad = (state: string): NydusError => corrupt(`Cannot read manifest.json of "${path}": ${state}`);
  let list: unknown;
  try {
    list = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw bad("it is not JSON");
  }
  if (!Array.isArray(list) || list.length === 0) throw bad("it is not a list of images");
  return list.map((item: unknown) => {
    const { Config, RepoTags, Layers } = (typeof item === "object" && item !== null ? item : {}) as Record<
      string,
      unknown
    >;
    if (typeof Config !== "string" || !isStrings(Layers)) throw bad("an image has no config or no layers");
    if (Layers.length > LAYER_LIMIT) throw bad(`an image has more than ${LAYER_LIMIT} layers`);
    return { config: Config, layers: Layers, tags: isStrings(RepoTags) ? RepoTags : [] };
  });
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
