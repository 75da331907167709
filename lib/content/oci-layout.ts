/**
 * An OCI image layout: a directory with `oci-layout`, `index.json` and `blobs/sha256/HEX`. Spec: image-layout.md.
 *
 * Invariant: a file under its digest's name is complete and was verified when it was written; `index.json` is replaced
 * as a whole.
 *
 * @module
 */
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, digestHex } from "../base/digest.ts";
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeJson, parseJsonObject } from "../oci/json.ts";
import { parseDocument } from "../oci/manifest.ts";
import { ANNOTATION, isIndexType, isManifestType, MEDIA } from "../oci/media-types.ts";
import type { FetchOptions, ImageStore } from "./content.ts";
import { streamFile, writeFileAtomically } from "./files.ts";
import { chooseManifest, type NamedManifest } from "./names.ts";
import { checkRange, verified } from "./verified.ts";

/** The full image name, as containerd's exporter writes it beside the tag. */
const CONTAINERD_NAME = "io.containerd.image.name";
const LAYOUT_FILE = { imageLayoutVersion: "1.0.0" };

export interface OciLayoutOptions {
  /** Make the directory a layout if it is not one. */
  readonly create?: boolean;
  readonly signal?: AbortSignal;
}

export class OciLayout implements ImageStore {
  readonly name: string;
  readonly directory: string;
  /** Changes of index.json in this process wait for each other. */
  #indexWrites: Promise<void> = Promise.resolve();

  private constructor(directory: string) {
    this.directory = directory;
    this.name = `oci:${directory}`;
  }

  /** @throws not_found when there is no layout and `create` is not set */
  static async open(directory: string, options: OciLayoutOptions = {}): Promise<OciLayout> {
    const layout = new OciLayout(directory);
    if (options.create === true) await createLayout(directory);
    else await checkLayout(directory);
    return layout;
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const { range, signal } = options;
    signal?.throwIfAborted();
    const path = this.blobPath(descriptor.digest);
    const size = await this.sizeOf(descriptor.digest);
    if (size === undefined)
      throw new NydusError(
        "not_found",
        `Cannot read "${descriptor.digest}" from ${this.name}: it is not there`,
      );
    if (range === undefined)
      return verified(streamFile(path, { start: 0, end: size }, signal), descriptor, this.name);
    checkRange(range, size, descriptor.digest, this.name);
    return streamFile(path, range, signal);
  }

  async has(descriptor: Descriptor): Promise<boolean> {
    return (await this.sizeOf(descriptor.digest)) === descriptor.size;
  }

  async push(
    descriptor: Descriptor,
    body: ReadableStream<Uint8Array>,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    const checked = verified(body, descriptor, "the source");
    await writeFileAtomically(this.blobPath(descriptor.digest), checked, options);
  }

  async resolve(reference?: string): Promise<Descriptor> {
    return chooseManifest((await this.#readIndex()).map(named), reference, this.name);
  }

  /** Tags of the index, in its order. */
  async tags(): Promise<readonly string[]> {
    return (await this.#readIndex()).flatMap((manifest) => manifest.annotations?.[ANNOTATION.refName] ?? []);
  }

  async tag(descriptor: Descriptor, reference?: string): Promise<void> {
    if (!isManifestType(descriptor.mediaType) && !isIndexType(descriptor.mediaType))
      throw new NydusError("usage", `Cannot tag "${descriptor.digest}": it is not a manifest`);
    if (!(await this.has(descriptor)))
      throw new NydusError("not_found", `Cannot tag "${descriptor.digest}" in ${this.name}: it is not there`);
    const write = this.#indexWrites.then(async () => {
      const others = (await this.#readIndex()).filter((old) => !replaces(descriptor, reference, old));
      const entry = reference === undefined ? descriptor : withName(descriptor, reference);
      await writeIndex(this.directory, [...others, entry]);
    });
    this.#indexWrites = write.catch(() => {});
    await write;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#indexWrites;
  }

  /** Where a blob is, or would be. */
  blobPath(digest: Digest): string {
    return join(this.directory, "blobs", "sha256", digestHex(digest));
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(this.blobPath(digest))).size;
    } catch (error) {
      const known = toNydusError(error, `look for "${digest}" in ${this.name}`);
      if (known.code === "not_found") return undefined;
      throw known;
    }
  }

  async #readIndex(): Promise<readonly Descriptor[]> {
    const path = join(this.directory, "index.json");
    const bytes = await readFile(path).catch((error: unknown) => {
      throw toNydusError(error, `read "${path}"`);
    });
    const document = parseDocument(bytes, MEDIA.ociIndex, `"${path}"`);
    return document.kind === "index" ? document.index.manifests : [];
  }
}

export function named(descriptor: Descriptor): NamedManifest {
  const names = [ANNOTATION.refName, CONTAINERD_NAME].flatMap((key) => descriptor.annotations?.[key] ?? []);
  return { names, descriptor };
}

function withName(descriptor: Descriptor, reference: string): Descriptor {
  return { ...descriptor, annotations: { ...descriptor.annotations, [ANNOTATION.refName]: reference } };
}

/** A tag moves: the old holder loses it. Without a tag, only the same manifest's untagged entry is replaced. */
function replaces(descriptor: Descriptor, reference: string | undefined, old: Descriptor): boolean {
  const name = old.annotations?.[ANNOTATION.refName];
  return reference === undefined
    ? name === undefined && old.digest === descriptor.digest
    : name === reference;
}

async function createLayout(directory: string): Promise<void> {
  try {
    await mkdir(join(directory, "blobs", "sha256"), { recursive: true });
    await checkLayout(directory);
  } catch (error) {
    if (!isCode(error, "not_found")) throw toNydusError(error, `create "${directory}"`);
    await writeIndex(directory, []);
    await writeFileAtomically(join(directory, "oci-layout"), encodeJson(LAYOUT_FILE));
  }
}

async function checkLayout(directory: string): Promise<void> {
  const path = join(directory, "oci-layout");
  const bytes = await readFile(path).catch((error: unknown) => {
    throw toNydusError(error, `open "oci:${directory}"`);
  });
  const { imageLayoutVersion } = parseJsonObject(bytes, `"${path}"`);
  if (typeof imageLayoutVersion === "string" && imageLayoutVersion.startsWith("1.")) return;
  throw new NydusError("unsupported", `Cannot open "oci:${directory}": its layout version is not 1`);
}

async function writeIndex(directory: string, manifests: readonly Descriptor[]): Promise<void> {
  const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests };
  await writeFileAtomically(join(directory, "index.json"), encodeJson(index));
}
