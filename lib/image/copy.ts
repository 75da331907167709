/**
 * Copies an image as it is from one store to another: blobs first, those too that an OCI-referenced image only names,
 * then what refers to them, the name last. What the target has already is not sent again.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import { type Progress, silent } from "../base/progress.ts";
import type { ImageStore } from "../content/content.ts";
import { readBlob } from "../content/read.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MANIFEST_SIZE_LIMIT, type Manifest, parseDocument } from "../oci/manifest.ts";
import { copyBlob } from "./copy-blob.ts";
import { originalLayers } from "./original-layers.ts";

export interface CopyOptions {
  readonly signal?: AbortSignal;
  readonly progress?: Progress;
  /** Blobs under way at once. */
  readonly concurrency?: number;
}

export interface CopyReport {
  readonly descriptor: Descriptor;
  /** Blobs sent, and their bytes. */
  readonly blobs: number;
  readonly bytes: number;
  /** Blobs that were there, or that the registry had in another repository. */
  readonly skipped: number;
}

const CONCURRENCY = 3;
/** Indexes in indexes. */
const MAX_DEPTH = 4;

/**
 * @param root a manifest or an index (with all of its manifests)
 * @param reference the tag to give it; undefined = the target's default
 */
export async function copyImage(
  from: ImageStore,
  root: Descriptor,
  to: ImageStore,
  reference: string | undefined,
  options: CopyOptions = {},
): Promise<CopyReport> {
  const copy = new Copy(from, to, options);
  await copy.tree(root, 0);
  await to.tag(root, reference, copy.signal);
  return { descriptor: root, blobs: copy.blobs, bytes: copy.bytes, skipped: copy.skipped };
}

/** Everything that a manifest or an index needs, and itself; no name is given. */
export async function copyParts(
  from: ImageStore,
  root: Descriptor,
  to: ImageStore,
  options: CopyOptions = {},
): Promise<void> {
  await new Copy(from, to, options).tree(root, 0);
}

class Copy {
  readonly #from: ImageStore;
  readonly #to: ImageStore;
  readonly #progress: Progress;
  readonly #limiter: Limiter;
  /** The first failure stops the other transfers. */
  readonly #stop = new AbortController();
  readonly signal: { readonly signal: AbortSignal };
  blobs = 0;
  bytes = 0;
  skipped = 0;

  constructor(from: ImageStore, to: ImageStore, options: CopyOptions) {
    this.#from = from;
    this.#to = to;
    this.#progress = options.progress ?? silent;
    this.#limiter = new Limiter(options.concurrency ?? CONCURRENCY);
    const signals = [this.#stop.signal, ...(options.signal === undefined ? [] : [options.signal])];
    this.signal = { signal: AbortSignal.any(signals) };
  }

  /** A document and all that it refers to, children first. */
  async tree(descriptor: Descriptor, depth: number): Promise<void> {
    const where = `"${descriptor.digest}" of ${this.#from.name}`;
    const limits = { limit: MANIFEST_SIZE_LIMIT, what: "the manifest", ...this.signal };
    const bytes = await readBlob(this.#from, descriptor, limits);
    const document = parseDocument(bytes, descriptor.mediaType, where);
    if (document.kind === "manifest") await this.#parts(document.manifest);
    else {
      if (depth === MAX_DEPTH)
        throw new NydusError("corrupt", `Cannot copy ${where}: indexes are nested too deeply`);
      for (const child of document.index.manifests) await this.tree(child, depth + 1);
    }
    if (!(await this.#to.has(descriptor, this.signal)))
      await this.#to.push(descriptor, streamOf(bytes), this.signal);
  }

  async #parts(manifest: Manifest): Promise<void> {
    const { config, layers } = manifest;
    const originals = await originalLayers(this.#from, manifest, this.signal);
    const parts = new Map([...layers, config, ...originals].map((part) => [part.digest, part]));
    const transfers = [...parts.values()].map((part) =>
      this.#limiter
        .run(() => this.#part(part))
        .catch((error: unknown) => {
          this.#stop.abort(error);
          throw error;
        }),
    );
    const failed = (await Promise.allSettled(transfers)).filter((result) => result.status === "rejected");
    // Those that were stopped because another failed say less than that one.
    const first = failed.find(({ reason }) => reason === this.#stop.signal.reason) ?? failed[0];
    if (first !== undefined) throw first.reason;
  }

  async #part(part: Descriptor): Promise<void> {
    const task = this.#progress.task(part.digest.slice("sha256:".length, "sha256:".length + 12), part.size);
    const how = await copyBlob(part, this.#from, this.#to, { ...this.signal, task });
    if (how === "sent") {
      this.blobs++;
      this.bytes += part.size;
    } else this.skipped++;
  }
}
