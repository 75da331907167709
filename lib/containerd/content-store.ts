/**
 * containerd's content store as a place for images: blobs by digest, names through image records. Labels on blobs are
 * edges for containerd's garbage collector, so whoever writes says what a blob refers to.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import { isDigest } from "../base/digest.ts";
import { isCode, NydusError } from "../base/error.ts";
import type { FetchOptions, ImageStore } from "../content/content.ts";
import { checkRange, readAll, streamOf, verified } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, parseDocument } from "../oci/manifest.ts";
import { isIndexType, isManifestType } from "../oci/media-types.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import type { ContainerdClient } from "./client.ts";
import { edgesOf } from "./edges.ts";
import { Content } from "./gen/content_pb.ts";
import { ImageRecords } from "./images.ts";
import { ingest, type OpenBody } from "./ingest.ts";

export interface ContentInfo {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly labels: Readonly<Record<string, string>>;
}

interface Options {
  readonly signal?: AbortSignal;
}

export interface WriteOptions extends Options {
  /** Labels for the blob; those it has already under other names stay. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Called with counts of bytes as they are sent. */
  readonly sent?: (bytes: number) => void;
}

export class ContentStore implements ImageStore {
  readonly name: string;
  readonly #client: ContainerdClient;
  readonly #images: ImageRecords;

  constructor(client: ContainerdClient) {
    this.#client = client;
    this.#images = new ImageRecords(client);
    this.name = `containerd:${client.address}`;
  }

  /** Undefined when this namespace has no such blob. */
  async info(digest: Digest, options: Options = {}): Promise<ContentInfo | undefined> {
    try {
      return await this.#client.call(`look up blob "${digest}"`, async () => {
        const { info } = await this.#client.service(Content).info({ digest }, options);
        return { digest, size: Number(info?.size ?? 0n), labels: info?.labels ?? {} };
      });
    } catch (error) {
      if (isCode(error, "not_found")) return undefined;
      throw error;
    }
  }

  async has(descriptor: Descriptor, options: Options = {}): Promise<boolean> {
    return (await this.info(descriptor.digest, options))?.size === descriptor.size;
  }

  async sizeOf(digest: Digest, options: Options = {}): Promise<number | undefined> {
    return (await this.info(digest, options))?.size;
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const { range, signal } = options;
    const found = await this.info(descriptor.digest, signal === undefined ? {} : { signal });
    if (found === undefined) {
      throw new NydusError(
        "not_found",
        `Cannot read "${descriptor.digest}" from ${this.name}: it is not there`,
      );
    }
    if (range === undefined) {
      return verified(this.#read(descriptor.digest, 0, found.size, signal), descriptor, this.name);
    }
    checkRange(range, found.size, descriptor.digest, this.name);
    return this.#read(descriptor.digest, range.start, range.end - range.start, signal);
  }

  /** A read of size 0 would mean "to the end", so an empty range asks nothing. */
  #read(digest: Digest, offset: number, size: number, signal?: AbortSignal): ReadableStream<Uint8Array> {
    if (size === 0) return new ReadableStream({ start: (controller) => controller.close() });
    const stopped = new AbortController();
    const stop = signal === undefined ? stopped.signal : AbortSignal.any([signal, stopped.signal]);
    const request = { digest, offset: BigInt(offset), size: BigInt(size) };
    const parts = this.#client.service(Content).read(request, { signal: stop })[Symbol.asyncIterator]();
    const action = `read blob "${digest}"`;
    let left = size;
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const part = await this.#client.call(action, () => parts.next());
          const data: Uint8Array | undefined = part.done === true ? undefined : part.value.data;
          left -= data?.byteLength ?? 0;
          if (data !== undefined && left >= 0) return controller.enqueue(data);
          if (left === 0) return controller.close();
          stopped.abort();
          throw new NydusError(
            "corrupt",
            `Cannot ${action} from ${this.name}: the answer is not ${size} bytes`,
          );
        },
        cancel: () => stopped.abort(),
      },
      { highWaterMark: 0 },
    );
  }

  /** Manifests and indexes get the labels that tie them to what they name. */
  async push(descriptor: Descriptor, body: ReadableStream<Uint8Array>, options: Options = {}): Promise<void> {
    if (isManifestType(descriptor.mediaType) || isIndexType(descriptor.mediaType))
      return await this.#pushDocument(descriptor, body, options);
    const outcome = await this.write(descriptor, () => body, options);
    if (outcome === "exists") await body.cancel().catch(() => {}); // a racing writer was faster; it may be locked
  }

  async #pushDocument(
    descriptor: Descriptor,
    body: ReadableStream<Uint8Array>,
    options: Options,
  ): Promise<void> {
    const checked = verified(body, descriptor, "the source");
    const bytes = await readAll(checked, MANIFEST_SIZE_LIMIT, `"${descriptor.digest}"`);
    const document = parseDocument(bytes, descriptor.mediaType, `"${descriptor.digest}"`);
    await this.write(descriptor, () => streamOf(bytes), { ...options, labels: edgesOf(document) });
  }

  /**
   * Like `push`, with labels, and with a body that is opened only if needed. A blob that is there already gets the
   * labels too, and belongs to the client's lease afterwards as if it had been written.
   */
  async write(
    descriptor: Descriptor,
    open: () => ReadableStream<Uint8Array> | Promise<ReadableStream<Uint8Array>>,
    options: WriteOptions = {},
  ): Promise<"written" | "exists"> {
    const { labels = {}, signal } = options;
    const body: OpenBody = async () => verified(await open(), descriptor, "the source");
    const outcome = await ingest(this.#client, descriptor, body, options);
    if (outcome === "exists")
      await this.setLabels(descriptor.digest, labels, signal === undefined ? {} : { signal });
    return outcome;
  }

  /** Add or change labels; an empty value removes one. */
  async setLabels(
    digest: Digest,
    labels: Readonly<Record<string, string>>,
    options: Options = {},
  ): Promise<void> {
    const paths = Object.keys(labels).map((key) => `labels.${key}`);
    if (paths.length === 0) return;
    await this.#client.call(`label blob "${digest}"`, () =>
      this.#client.service(Content).update({ info: { digest, labels }, updateMask: { paths } }, options),
    );
  }

  /** @param reference an image name as containerd stores it, or short as people write it, or a digest */
  async resolve(reference?: string, options: Options = {}): Promise<Descriptor> {
    if (reference === undefined) {
      throw new NydusError("usage", `Cannot choose an image from ${this.name}: say which one`);
    }
    for (const name of new Set([reference, fullName(reference)])) {
      const record = name === undefined ? undefined : await this.#images.get(name, options);
      if (record !== undefined) return record.target;
    }
    const info = isDigest(reference) ? await this.info(reference, options) : undefined;
    if (info !== undefined) return { mediaType: "", digest: info.digest, size: info.size };
    throw new NydusError(
      "not_found",
      `Cannot find image "${reference}" in ${this.name}: namespace "${this.#client.namespace}" has no such image`,
    );
  }

  async tag(descriptor: Descriptor, reference?: string, options: Options = {}): Promise<void> {
    const name = reference === undefined ? undefined : fullName(reference);
    if (name === undefined)
      throw new NydusError("usage", `Cannot name an image in ${this.name}: "${reference ?? ""}" is no name`);
    await this.#images.put({ name, target: descriptor, labels: {} }, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }
}

/** "alpine" to "docker.io/library/alpine:latest"; undefined when it is no reference. */
function fullName(reference: string): string | undefined {
  try {
    return formatReference(parseReference(reference));
  } catch {
    return undefined;
  }
}
