/**
 * An image that containerd knows: what its content store has is read from there, and what it never fetched (data of lazy
 * images, layers that were given up after unpacking) from the image's own registry.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Digest } from "../base/digest.ts";
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import type { ContentStore } from "../containerd/content-store.ts";
import type { Fetcher, FetchOptions, ImageStore } from "../content/content.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { RegistryStore } from "../registry/store.ts";

/** Milliseconds for which a blob that was not there is not looked for again: reads are many and small. */
const ABSENT_FOR = 60_000;
/** containerd is being started again: an image that no registry has waits for it. */
const ATTEMPTS = 60;
const PAUSE_MS = 500;
/** Blobs of one image. */
const MAX_ABSENT = 1024;

export interface LocalFirstOptions {
  /** The content store is somebody else's to close. */
  readonly shared?: boolean;
}

export class LocalFirst implements ImageStore {
  readonly name: string;
  readonly #local: ContentStore;
  readonly #remote: Fetcher & Partial<AsyncDisposable>;
  readonly #shared: boolean;
  /** By digest: when to look again, by `performance.now()`. */
  readonly #absent = new Map<string, number>();

  constructor(
    local: ContentStore,
    remote: Fetcher & Partial<AsyncDisposable>,
    options: LocalFirstOptions = {},
  ) {
    this.name = local.name;
    this.#shared = options.shared === true;
    this.#local = local;
    this.#remote = remote;
  }

  /** Where everything is that was not brought here. */
  get remote(): Fetcher {
    return this.#remote;
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const { digest } = descriptor;
    // What was wrong here is right elsewhere, or nowhere.
    const skip = options.damaged !== undefined || performance.now() < (this.#absent.get(digest) ?? 0);
    if (skip) return await this.#remote.fetch(descriptor, options);
    for (let attempt = 1; ; attempt++) {
      options.signal?.throwIfAborted();
      try {
        return await this.#local.fetch(descriptor, options);
      } catch (error) {
        options.signal?.throwIfAborted();
        // Whatever is wrong here, the registry may have it.
        const failure = toNydusError(error, `read "${digest}" from ${this.name}`);
        const away = isCode(failure, "unavailable");
        if (!away) this.#markAbsent(digest);
        const found = await this.#fetchElsewhere(descriptor, options, failure);
        if (found instanceof ReadableStream) return found;
        if (!away || attempt === ATTEMPTS) throw found;
        await sleep(PAUSE_MS);
      }
    }
  }

  /** A registry that knows nothing of the image says less than the store that should have had it. */
  async #fetchElsewhere(
    descriptor: Descriptor,
    options: FetchOptions,
    local: NydusError,
  ): Promise<ReadableStream<Uint8Array> | NydusError> {
    try {
      return await this.#remote.fetch(descriptor, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      const known = toNydusError(error, `read "${descriptor.digest}"`);
      if (local.code === "unavailable") return local;
      if (known.code !== "not_found") throw known;
      return new NydusError(local.code, `${local.message}, and not in the image's registry`, {
        cause: error,
      });
    }
  }

  /** What containerd lacks, or cannot tell now, the registry is asked for. */
  async sizeOf(digest: Digest, options: { signal?: AbortSignal } = {}): Promise<number | undefined> {
    const here = await this.#local.sizeOf(digest, options).catch(() => undefined);
    return here ?? (await this.#remote.sizeOf?.(digest, options));
  }

  #markAbsent(digest: string): void {
    const [oldest] = this.#absent.keys();
    if (this.#absent.size >= MAX_ABSENT && oldest !== undefined) this.#absent.delete(oldest);
    this.#absent.set(digest, performance.now() + ABSENT_FOR);
  }

  has(descriptor: Descriptor, options: { signal?: AbortSignal } = {}): Promise<boolean> {
    return this.#local.has(descriptor, options);
  }

  push(
    descriptor: Descriptor,
    body: ReadableStream<Uint8Array>,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    return this.#local.push(descriptor, body, options);
  }

  resolve(reference?: string, options: { signal?: AbortSignal } = {}): Promise<Descriptor> {
    return this.#local.resolve(reference, options);
  }

  tag(descriptor: Descriptor, reference?: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#local.tag(descriptor, reference, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#shared) await this.#local[Symbol.asyncDispose]();
    await this.#remote[Symbol.asyncDispose]?.();
  }
}

/** The registry that an image's blobs come from in the end; only registries keep what refers to an image. */
export function registryOf(store: Fetcher): RegistryStore | undefined {
  const last = store instanceof LocalFirst ? store.remote : store;
  return last instanceof RegistryStore ? last : undefined;
}
