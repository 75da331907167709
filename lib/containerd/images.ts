/** containerd's image records: a name, and the manifest or index it stands for. @module */

import { Code, ConnectError } from "@connectrpc/connect";
import { parseDigest } from "../base/digest.ts";
import { isCode } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { ContainerdClient } from "./client.ts";
import { type Image, Images } from "./gen/images_pb.ts";

export interface ImageRecord {
  /** "docker.io/library/alpine:latest"; CRI also keeps records named by config digest. */
  readonly name: string;
  readonly target: Descriptor;
  readonly labels: Readonly<Record<string, string>>;
}

interface Options {
  readonly signal?: AbortSignal;
}

export class ImageRecords {
  readonly #client: ContainerdClient;

  constructor(client: ContainerdClient) {
    this.#client = client;
  }

  async get(name: string, options: Options = {}): Promise<ImageRecord | undefined> {
    try {
      return await this.#client.call(`look up image "${name}"`, async () => {
        const { image } = await this.#client.service(Images).get({ name }, options);
        return image === undefined ? undefined : recordOf(image);
      });
    } catch (error) {
      if (isCode(error, "not_found")) return undefined;
      throw error;
    }
  }

  async list(options: Options = {}): Promise<readonly ImageRecord[]> {
    return this.#client.call("list images", async () => {
      const { images } = await this.#client.service(Images).list({}, options);
      return images.flatMap((image) => recordOf(image) ?? []);
    });
  }

  /** Create the record, or point it to the new target; labels under other names stay. */
  async put(record: ImageRecord, options: Options = {}): Promise<void> {
    const image = { name: record.name, labels: { ...record.labels }, target: targetOf(record.target) };
    const paths = ["target", ...Object.keys(record.labels).map((key) => `labels.${key}`)];
    await this.#client.call(`write image "${record.name}"`, async () => {
      const images = this.#client.service(Images);
      try {
        await images.create({ image }, options);
      } catch (error) {
        if (!isAlreadyThere(error)) throw error;
        await images.update({ image, updateMask: { paths } }, options);
      }
    });
  }

  /** Removing what is not there is a no-op. `sync` waits for the garbage collection. */
  async remove(name: string, options: Options & { readonly sync?: boolean } = {}): Promise<void> {
    const { sync = false, ...call } = options;
    try {
      await this.#client.call(`remove image "${name}"`, () =>
        this.#client.service(Images).delete({ name, sync }, call),
      );
    } catch (error) {
      if (!isCode(error, "not_found")) throw error;
    }
  }
}

function isAlreadyThere(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.AlreadyExists;
}

function recordOf(image: Image): ImageRecord | undefined {
  if (image.target === undefined) return undefined;
  const { mediaType, digest, size, annotations } = image.target;
  return {
    name: image.name,
    target: {
      mediaType,
      digest: parseDigest(digest, `image "${image.name}"`),
      size: Number(size),
      annotations,
    },
    labels: image.labels,
  };
}

/** A descriptor as containerd's messages write it. */
export function targetOf(descriptor: Descriptor): {
  mediaType: string;
  digest: string;
  size: bigint;
  annotations: Record<string, string>;
} {
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: BigInt(descriptor.size),
    annotations: { ...descriptor.annotations },
  };
}
