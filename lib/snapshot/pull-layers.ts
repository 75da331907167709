/**
 * Unpacks the layers of an image, lowest first, each into a snapshot named by its chain ID. Layers that the snapshotter
 * has (or takes without their data) are not fetched; from the first one that it wants on, the others are fetched ahead
 * while lower ones are unpacked.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import type { Digest } from "../base/digest.ts";
import { corrupt, isCode, NydusError } from "../base/error.ts";
import { Limiter } from "../base/limiter.ts";
import type { Logger } from "../base/log.ts";
import type { Progress } from "../base/progress.ts";
import type { ContainerdClient } from "../containerd/client.ts";
import type { ContentStore } from "../containerd/content-store.ts";
import { applyLayer } from "../containerd/diff.ts";
import { dataEdges } from "../containerd/edges.ts";
import type { Mount, SnapshotsClient } from "../containerd/snapshots.ts";
import type { ImageStore } from "../content/content.ts";
import type { Image, Layer } from "../image/load.ts";
import { hasToc } from "../layers/find-toc.ts";
import { ANNOTATION, SNAPSHOT_PREFIX } from "../oci/media-types.ts";
import { LABEL, type Labels } from "./labels.ts";

export interface LayerReport {
  readonly digest: Digest;
  /** Stored bytes. */
  readonly size: number;
  /** `lazy`: its data comes when it is read. `exists`: it was unpacked before. */
  readonly state: "lazy" | "exists" | "unpacked";
  readonly fetched: number;
}

export interface UnpackRequest {
  readonly store: ImageStore;
  readonly client: ContainerdClient;
  readonly content: ContentStore;
  readonly snapshots: SnapshotsClient;
  readonly image: Image;
  /** Chain IDs of the layers. */
  readonly chain: readonly Digest[];
  /** The image's full name. */
  readonly reference: string;
  /** For the blobs of layers. */
  readonly labels: Labels;
  readonly progress: Progress;
  readonly log: Logger;
  readonly signal?: AbortSignal;
}

/** Downloads at once, as containerd does it. */
const DOWNLOADS = 3;
/** containerd limits a label to this many bytes, key and value together. */
const LABEL_LIMIT = 4096;
/** A snapshot may be removed between "it exists" and a look at it. */
const ATTEMPTS = 3;

export async function unpackLayers(request: UnpackRequest): Promise<readonly LayerReport[]> {
  const { image, chain, signal } = request;
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const downloads = new Downloads({ ...request, signal: either });
  try {
    const reports: LayerReport[] = [];
    for (const [i, layer] of image.layers.entries()) {
      either.throwIfAborted();
      const chainId = chain[i];
      if (chainId === undefined) throw new NydusError("internal", "Cannot unpack: a chain ID is missing");
      reports.push(
        await unpackLayer(request, { layer, index: i, chainId, parent: chain[i - 1] ?? "" }, downloads),
      );
    }
    return reports;
  } finally {
    stop.abort();
    await downloads.settled();
  }
}

interface Step {
  readonly layer: Layer;
  readonly index: number;
  readonly chainId: Digest;
  readonly parent: string;
}

async function unpackLayer(request: UnpackRequest, step: Step, downloads: Downloads): Promise<LayerReport> {
  const { client, content, snapshots, signal } = request;
  const { descriptor, diffId } = step.layer;
  const { digest, size } = descriptor;
  const options = signal === undefined ? {} : { signal };
  const labels = snapshotLabels(request, step);
  const isNew = (await snapshots.stat(step.chainId, options)) === undefined;
  const prepared = await prepare(request, step, labels);
  if (prepared === undefined) {
    const lazy = isData(step.layer) || isNew;
    request.progress.task(short(digest), size).finish(lazy ? "lazy" : "already there");
    return { digest, size, state: lazy ? "lazy" : "exists", fetched: 0 };
  }
  try {
    if (isData(step.layer)) throw notLazy(snapshots.snapshotter);
    await downloads.startFrom(step.index);
    const fetched = await downloads.get(step.layer);
    const applied = await applyLayer(client, descriptor, prepared.mounts, options);
    if (applied !== diffId)
      throw corrupt(`Cannot unpack layer "${digest}": its diff id is ${applied}, the config says ${diffId}`);
    await commit(snapshots, step.chainId, prepared.key, labels);
    await content.setLabels(digest, { "containerd.io/uncompressed": diffId });
    return { digest, size, state: "unpacked", fetched };
  } catch (error) {
    // No signal: an interrupted pull cleans up too.
    await snapshots.remove(prepared.key).catch((cause: unknown) => {
      request.log.warn("cannot remove a snapshot", { key: prepared.key, error: String(cause) });
    });
    throw error;
  }
}

/**
 * Undefined when the snapshotter has the layer, or took it without its data. Takes no signal: a call that is cut off
 * between containerd and its snapshotter leaves a snapshot that containerd does not know.
 */
async function prepare(
  { snapshots }: UnpackRequest,
  { chainId, parent }: Step,
  labels: Labels,
): Promise<{ readonly key: string; readonly mounts: readonly Mount[] } | undefined> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const key = `extract-${Date.now()}-${randomUUID().slice(0, 8)} ${chainId}`;
    try {
      return { key, mounts: await snapshots.prepare(key, parent, { labels }) };
    } catch (error) {
      if (!isCode(error, "exists")) throw error;
      if ((await snapshots.stat(chainId)) !== undefined) return undefined;
    }
  }
  throw new NydusError(
    "unavailable",
    `Cannot prepare snapshot "${chainId}": it comes and goes; somebody removes it`,
  );
}

/** Somebody else may have unpacked the same layer meanwhile. No signal, for the same reason. */
async function commit(
  snapshots: SnapshotsClient,
  chainId: string,
  key: string,
  labels: Labels,
): Promise<void> {
  try {
    await snapshots.commit(chainId, key, { labels });
  } catch (error) {
    if (!isCode(error, "exists")) throw error;
    await snapshots.remove(key);
  }
}

function isData({ descriptor }: Layer): boolean {
  return descriptor.annotations?.[ANNOTATION.nydusBlob] !== undefined;
}

/** The snapshotter decides when it is asked for the layer: it can be mounted by its table of contents. */
function mayBeLazy({ descriptor }: Layer): boolean {
  return hasToc(descriptor);
}

function notLazy(snapshotter: string): NydusError {
  return new NydusError(
    "unsupported",
    `Cannot pull a Nydus image with snapshotter "${snapshotter}": it wants to download a data layer; is it ours?`,
  );
}

/** What a remote snapshotter is told about a layer; see `labels.ts`. Annotations cannot override it. */
function snapshotLabels({ image, reference }: UnpackRequest, { layer, index, chainId }: Step): Labels {
  const annotations = Object.entries(layer.descriptor.annotations ?? {});
  const isBootstrap = ANNOTATION.nydusBootstrap in (layer.descriptor.annotations ?? {});
  const data = isBootstrap ? image.layers.filter(isData) : [];
  return {
    ...dataEdges(data.map(({ descriptor }) => descriptor)),
    ...Object.fromEntries(annotations.filter(([key]) => key.startsWith(SNAPSHOT_PREFIX))),
    ...(hasToc(layer.descriptor) ? { [LABEL.toc]: layer.descriptor.digest } : {}),
    [LABEL.target]: chainId,
    [LABEL.imageReference]: reference,
    [LABEL.manifestDigest]: image.descriptor.digest,
    [LABEL.layerDigest]: layer.descriptor.digest,
    [LABEL.imageLayers]: layerList(image, index),
    [LABEL.diffId]: layer.diffId,
  };
}

/** Digests of this layer and those above it, as many as a label takes. */
function layerList({ layers }: Image, from: number): string {
  let list = "";
  for (const { descriptor } of layers.slice(from)) {
    const longer = list === "" ? descriptor.digest : `${list},${descriptor.digest}`;
    if (LABEL.imageLayers.length + longer.length > LABEL_LIMIT) break;
    list = longer;
  }
  return list;
}

function short(digest: Digest): string {
  return digest.slice("sha256:".length, "sha256:".length + 12);
}

/** Layers on their way into the content store, a few at a time. */
class Downloads {
  readonly #request: UnpackRequest;
  readonly #limiter = new Limiter(DOWNLOADS);
  readonly #running = new Map<Digest, Promise<number>>();
  #started = false;

  constructor(request: UnpackRequest) {
    this.#request = request;
  }

  /** Start with this layer and every one above it that has no snapshot yet and whose data is wanted. Once is enough. */
  async startFrom(index: number): Promise<void> {
    if (this.#started) return;
    this.#started = true;
    const { image, chain, snapshots, signal } = this.#request;
    const options = signal === undefined ? {} : { signal };
    for (const [i, layer] of image.layers.entries()) {
      if (
        i >= index &&
        !isData(layer) &&
        !mayBeLazy(layer) &&
        (await snapshots.stat(chain[i] ?? "", options)) === undefined
      )
        void this.#start(layer);
    }
  }

  /** Resolves to the bytes that were fetched once the layer is in the content store. */
  get(layer: Layer): Promise<number> {
    return this.#start(layer);
  }

  #start(layer: Layer): Promise<number> {
    const known = this.#running.get(layer.descriptor.digest);
    if (known !== undefined) return known;
    const download = this.#limiter.run(() => this.#download(layer));
    download.catch(() => {}); // reported by `get`; without this, one that nobody waits for yet would be unhandled
    this.#running.set(layer.descriptor.digest, download);
    return download;
  }

  async #download({ descriptor }: Layer): Promise<number> {
    const { store, content, labels, progress, signal } = this.#request;
    const options = signal === undefined ? {} : { signal };
    options.signal?.throwIfAborted();
    const task = progress.task(short(descriptor.digest), descriptor.size);
    const open = (): Promise<ReadableStream<Uint8Array>> => store.fetch(descriptor, options);
    const sent = (bytes: number): void => task.advance(bytes);
    const outcome = await content.write(descriptor, open, { labels, sent, ...options });
    task.finish(outcome === "exists" ? "already there" : "done");
    return outcome === "exists" ? 0 : descriptor.size;
  }

  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }
}
