/**
 * An OCI layout in a tar file. Reading does not unpack it. Writing builds the layout in a directory beside the file and
 * makes the archive when the store is closed, if something was tagged: a failed conversion leaves no archive.
 *
 * @module
 */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { byteStringOf } from "../base/byte-string.ts";
import type { Digest } from "../base/digest.ts";
import { digestHex } from "../base/digest.ts";
import { NydusError, toNydusError } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { MEDIA } from "../oci/media-types.ts";
import { type TarItem, writeTar } from "../tar/writer.ts";
import { ArchiveFile } from "./archive-file.ts";
import type { FetchOptions, ImageStore } from "./content.ts";
import { writeFileAtomically } from "./files.ts";
import { chooseManifest } from "./names.ts";
import { named, OciLayout } from "./oci-layout.ts";
import { ReadOnlyStore } from "./read-only.ts";
import { checkRange, verified } from "./verified.ts";

/** Reading an archive. */
export class OciArchive extends ReadOnlyStore implements ImageStore {
  readonly name: string;
  readonly #archive: ArchiveFile;

  private constructor(archive: ArchiveFile) {
    super();
    this.#archive = archive;
    this.name = `oci-archive:${archive.path}`;
  }

  /** @throws not_found, corrupt */
  static async open(path: string): Promise<OciArchive> {
    return new OciArchive(await ArchiveFile.open(path));
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const { range, signal } = options;
    signal?.throwIfAborted();
    const place = this.#archive.find(blobName(descriptor));
    if (place === undefined)
      throw new NydusError(
        "not_found",
        `Cannot read "${descriptor.digest}" from ${this.name}: it is not there`,
      );
    if (range === undefined) {
      const whole = this.#archive.stream(place, { start: 0, end: place.size }, signal);
      return verified(whole, descriptor, this.name);
    }
    checkRange(range, place.size, descriptor.digest, this.name);
    return this.#archive.stream(place, range, signal);
  }

  async has(descriptor: Descriptor): Promise<boolean> {
    return this.#archive.find(blobName(descriptor))?.size === descriptor.size;
  }

  async resolve(reference?: string): Promise<Descriptor> {
    const bytes = await this.#archive.read("index.json", MANIFEST_SIZE_LIMIT);
    const document = parseDocument(bytes, MEDIA.ociIndex, `index.json of ${this.name}`);
    const manifests = document.kind === "index" ? document.index.manifests : [];
    return chooseManifest(manifests.map(named), reference, this.name);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

function blobName(descriptor: Descriptor): string {
  return `blobs/sha256/${digestHex(descriptor.digest)}`;
}

/** Writing one: an existing file of that name is replaced as a whole. */
export class OciArchiveWriter implements ImageStore {
  readonly name: string;
  readonly #path: string;
  readonly #layout: OciLayout;
  #tagged = false;

  private constructor(path: string, layout: OciLayout) {
    this.#path = path;
    this.#layout = layout;
    this.name = `oci-archive:${path}`;
  }

  static async create(path: string): Promise<OciArchiveWriter> {
    // Beside the file: /tmp may be too small, and may be memory.
    const directory = await mkdtemp(join(dirname(path), `.${basename(path)}.`)).catch((error: unknown) => {
      throw toNydusError(error, `create "${path}"`);
    });
    return new OciArchiveWriter(path, await OciLayout.open(directory, { create: true }));
  }

  fetch(descriptor: Descriptor, options?: FetchOptions): Promise<ReadableStream<Uint8Array>> {
    return this.#layout.fetch(descriptor, options);
  }

  sizeOf(digest: Digest): Promise<number | undefined> {
    return this.#layout.sizeOf(digest);
  }

  has(descriptor: Descriptor): Promise<boolean> {
    return this.#layout.has(descriptor);
  }

  push(
    descriptor: Descriptor,
    body: ReadableStream<Uint8Array>,
    options?: { signal?: AbortSignal },
  ): Promise<void> {
    return this.#layout.push(descriptor, body, options);
  }

  resolve(reference?: string): Promise<Descriptor> {
    return this.#layout.resolve(reference);
  }

  async tag(descriptor: Descriptor, reference?: string): Promise<void> {
    await this.#layout.tag(descriptor, reference);
    this.#tagged = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.#tagged) await writeFileAtomically(this.#path, writeTar(await this.#items()));
    } finally {
      await rm(this.#layout.directory, { recursive: true, force: true });
    }
  }

  /** In a fixed order and without times, so that the same image gives the same file. */
  async #items(): Promise<readonly TarItem[]> {
    const blobs = (await readdir(join(this.#layout.directory, "blobs", "sha256"))).sort();
    const directoryItem = (path: string): TarItem => ({
      kind: "directory",
      path: byteStringOf(path),
      mode: 0o755,
    });
    const fileItem = (path: string): TarItem => {
      const file = Bun.file(join(this.#layout.directory, path));
      return { kind: "file", path: byteStringOf(path), mode: 0o644, size: file.size, body: file.stream() };
    };
    return [
      fileItem("oci-layout"),
      fileItem("index.json"),
      directoryItem("blobs/"),
      directoryItem("blobs/sha256/"),
      ...blobs.map((hex) => fileItem(`blobs/sha256/${hex}`)),
    ];
  }
}
