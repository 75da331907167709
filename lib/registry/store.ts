/**
 * A repository of a registry as an image store.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { abortable } from "../content/abortable.ts";
import type { FetchOptions, ImageStore, SourceStatus } from "../content/content.ts";
import { checkRange, readAll, streamOf, verified } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT } from "../oci/manifest.ts";
import { isIndexType, isManifestType } from "../oci/media-types.ts";
import { isTag, parseReference, type Reference } from "../oci/reference.ts";
import { createClient, type RegistryClient, type RegistryOptions } from "./client.ts";
import { fetchBlob } from "./fetcher.ts";
import { type HttpResponse, READ } from "./http.ts";
import { mountBlob, pushBlob, putManifest } from "./pusher.ts";
import { fetchReferrers, pushReferrer } from "./referrers.ts";
import { fetchManifest, MANIFEST_ACCEPT } from "./resolver.ts";
import { retrying } from "./retry.ts";
import { statusError } from "./status.ts";

/** Manifests kept so that resolving, reading and tagging one take one request; an index and its image, mostly. */
const KEPT_MANIFESTS = 8;

export class RegistryStore implements ImageStore {
  readonly name: string;
  /** "host:port", as in references. */
  readonly registry: string;
  readonly #client: RegistryClient;
  readonly #manifests = new Map<Digest, Uint8Array>();

  /** @param reference a reference, or just its registry and repository; tag and digest are not used */
  constructor(reference: string | Pick<Reference, "registry" | "repository">, options: RegistryOptions = {}) {
    const parsed = typeof reference === "string" ? parseReference(reference) : reference;
    this.registry = parsed.registry;
    this.#client = createClient(parsed, options);
    this.name = `docker://${this.#client.name}`;
  }

  /** Repository without registry, for mounting blobs from here into another one. */
  get repository(): string {
    return this.#client.repository;
  }

  sources(): readonly SourceStatus[] {
    return this.#client.endpoints.status;
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const { range, signal } = options;
    signal?.throwIfAborted();
    if (isManifest(descriptor)) return this.#fetchManifest(descriptor, options);
    if (range === undefined) {
      const whole = { start: 0, end: descriptor.size };
      const read = { descriptor, range: whole, whole: true, partsOnly: false, ...withSignal(signal) };
      return verified(await fetchBlob(this.#client, read), descriptor, this.name);
    }
    checkRange(range, Number.MAX_SAFE_INTEGER, descriptor.digest, this.name);
    if (range.start === range.end) return streamOf(new Uint8Array());
    const { partsOnly = false, damaged = [], from } = options;
    for (const place of damaged) this.#client.endpoints.distrust(descriptor.digest, place);
    const told = from === undefined ? {} : { from };
    return fetchBlob(this.#client, {
      ...{ descriptor, range, whole: false, partsOnly },
      ...told,
      ...withSignal(signal),
    });
  }

  async has(descriptor: Descriptor, options: { signal?: AbortSignal } = {}): Promise<boolean> {
    const kind = isManifest(descriptor) ? "manifests" : "blobs";
    return (await this.#head(kind, descriptor.digest, options.signal)) !== undefined;
  }

  async sizeOf(digest: Digest, options: { signal?: AbortSignal } = {}): Promise<number | undefined> {
    const headers = await this.#head("blobs", digest, options.signal);
    const size = Number(headers?.get("content-length") ?? Number.NaN);
    return Number.isSafeInteger(size) && size >= 0 ? size : undefined;
  }

  /** Undefined when there is no such thing. */
  #head(
    kind: "blobs" | "manifests",
    digest: Digest,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse["headers"] | undefined> {
    const action = `look for "${this.#client.name}@${digest}"`;
    return retrying(this.#client.retry, signal, async () => {
      const response = await this.#client.send({
        method: "HEAD",
        url: this.#client.url(`${kind}/${digest}`),
        action,
        access: READ,
        headers: { accept: kind === "manifests" ? MANIFEST_ACCEPT : "*/*" },
        ...withSignal(signal),
      });
      if (response.status !== 200 && response.status !== 404) throw await statusError(response, action);
      await response.discard();
      return response.status === 200 ? response.headers : undefined;
    });
  }

  async push(
    descriptor: Descriptor,
    body: ReadableStream<Uint8Array>,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    if (!isManifest(descriptor)) return pushBlob(this.#client, descriptor, body, options);
    const checked = verified(abortable(body, options.signal), descriptor, "the source");
    const bytes = await readAll(checked, MANIFEST_SIZE_LIMIT, `"${descriptor.digest}"`);
    await putManifest(this.#client, descriptor, bytes, descriptor.digest, options);
    this.#keep(descriptor.digest, bytes);
  }

  /** True when the registry took the blob from `repository` by itself: nothing needs to be sent. */
  async mount(
    descriptor: Descriptor,
    repository: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<boolean> {
    return mountBlob(this.#client, descriptor, repository, options);
  }

  async resolve(reference = "latest", options: { signal?: AbortSignal } = {}): Promise<Descriptor> {
    const wanted = reference.startsWith("@") ? reference.slice(1) : reference;
    const { descriptor, bytes } = await fetchManifest(this.#client, wanted, options);
    this.#keep(descriptor.digest, bytes);
    return descriptor;
  }

  async tag(
    descriptor: Descriptor,
    reference = "latest",
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    if (!isManifest(descriptor))
      throw new NydusError("usage", `Cannot tag "${descriptor.digest}": it is not a manifest`);
    const name = reference.startsWith("@") ? reference.slice(1) : reference;
    if (!isTag(name) && name !== descriptor.digest)
      throw new NydusError(
        "usage",
        `Cannot tag "${descriptor.digest}": "${name.slice(0, 150)}" is not a tag`,
      );
    const body = await this.#fetchManifest(descriptor, options);
    const bytes = await readAll(body, MANIFEST_SIZE_LIMIT, `"${descriptor.digest}"`);
    await putManifest(this.#client, descriptor, bytes, name, options);
  }

  /** Manifests of one artifact type whose subject is `subject`. */
  async referrers(
    subject: Digest,
    artifactType: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<readonly Descriptor[]> {
    return fetchReferrers(this.#client, subject, artifactType, options);
  }

  /** Stores a manifest so that `referrers` lists it as `entry`. Its parts are there already. */
  async attach(
    subject: Digest,
    entry: Descriptor,
    bytes: Uint8Array,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    await pushReferrer(this.#client, subject, entry, bytes, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#manifests.clear();
  }

  async #fetchManifest(descriptor: Descriptor, options: FetchOptions): Promise<ReadableStream<Uint8Array>> {
    let bytes = this.#manifests.get(descriptor.digest);
    if (bytes === undefined) {
      ({ bytes } = await fetchManifest(this.#client, descriptor.digest, withSignal(options.signal)));
      this.#keep(descriptor.digest, bytes);
    }
    const { range } = options;
    if (range === undefined) return verified(streamOf(bytes), descriptor, this.name);
    checkRange(range, bytes.byteLength, descriptor.digest, this.name);
    return streamOf(bytes.subarray(range.start, range.end));
  }

  #keep(digest: Digest, bytes: Uint8Array): void {
    const [oldest] = this.#manifests.keys();
    if (this.#manifests.size >= KEPT_MANIFESTS && oldest !== undefined) this.#manifests.delete(oldest);
    this.#manifests.set(digest, bytes);
  }
}

function isManifest({ mediaType }: Descriptor): boolean {
  return isManifestType(mediaType) || isIndexType(mediaType);
}

function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
