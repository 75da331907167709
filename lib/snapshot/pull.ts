/**
 * Pulls an image into containerd, lazily if it is a Nydus image: what containerd's own client does for a remote
 * snapshotter, through its services. Manifest, config and unpacked layers come into the content store under a lease;
 * then the labels tie them together, the image record makes them findable, and the lease ends. Interrupted at any
 * moment, nothing is left but what other images use.
 *
 * @module
 */
import type { Digest } from "../base/digest.ts";
import { toNydusError } from "../base/error.ts";
import { type Logger, quietLogger } from "../base/log.ts";
import { type Progress, silent } from "../base/progress.ts";
import { chainIds } from "../containerd/chain-id.ts";
import type { ContainerdClient } from "../containerd/client.ts";
import { ContentStore } from "../containerd/content-store.ts";
import { edgesOf, snapshotEdge } from "../containerd/edges.ts";
import { ImageRecords } from "../containerd/images.ts";
import { withLease } from "../containerd/leases.ts";
import { SnapshotsClient } from "../containerd/snapshots.ts";
import type { ImageStore } from "../content/content.ts";
import { streamOf } from "../content/verified.ts";
import { type Image, isNydusImage, loadImage } from "../image/load.ts";
import type { Platform } from "../oci/descriptor.ts";
import { formatReference, parseReference, type Reference } from "../oci/reference.ts";
import { type LayerReport, unpackLayers } from "./pull-layers.ts";

export interface PullRequest {
  /** Where the image comes from. */
  readonly store: ImageStore;
  /** The image's name: its registry is where blobs will be read from while containers run. */
  readonly reference: Reference;
  readonly client: ContainerdClient;
  readonly snapshotter: string;
  readonly platform?: Platform;
  /** The image is in this containerd already: it is only unpacked, and stays what it is. */
  readonly inPlace?: boolean;
  /** In the place of an ordinary image, a Nydus image that refers to it. */
  readonly referrers?: boolean;
  readonly progress?: Progress;
  readonly log?: Logger;
  readonly signal?: AbortSignal;
}

export interface PullReport {
  readonly image: string;
  /** Of the manifest. */
  readonly digest: Digest;
  readonly nydus: boolean;
  readonly namespace: string;
  readonly snapshotter: string;
  /** What a container's snapshot is prepared on. */
  readonly chainId: string;
  readonly layers: readonly LayerReport[];
  /** Stored bytes of the image, and how many of them were fetched now. */
  readonly imageBytes: number;
  readonly fetchedBytes: number;
}

export async function pullImage(request: PullRequest): Promise<PullReport> {
  const { store, reference, client, platform, inPlace = false, referrers = false } = request;
  const signal = signalOf(request);
  const inside = inPlace ? formatReference(reference) : (reference.digest ?? reference.tag);
  try {
    const image = await loadImage(store, inside, {
      ...(platform === undefined ? {} : { platform }),
      referrers,
      ...signal,
    });
    return await withLease(client, (leased) => pullUnderLease(request, image, leased), signal);
  } catch (error) {
    throw toNydusError(error, `pull "${formatReference(reference)}"`);
  }
}

async function pullUnderLease(
  request: PullRequest,
  image: Image,
  client: ContainerdClient,
): Promise<PullReport> {
  const { store, reference, snapshotter, inPlace = false, progress = silent, log = quietLogger } = request;
  const signal = signalOf(request);
  const name = formatReference(reference);
  const content = new ContentStore(client);
  const source = inPlace ? {} : sourceLabel(reference);
  const chain = chainIds(image.layers.map(({ diffId }) => diffId));
  const chainId = chain.at(-1) ?? "";

  const { manifest, configBytes, manifestBytes, descriptor } = image;
  await content.write(manifest.config, () => streamOf(configBytes), { labels: source, ...signal });
  await content.write(descriptor, () => streamOf(manifestBytes), {
    // Data blobs of a Nydus image are named too, although they are not there.
    labels: { ...source, ...edgesOf({ kind: "manifest", manifest }) },
    ...signal,
  });
  const layers = await unpackLayers({
    ...{ store, client, content, image, chain, progress, log, ...signal },
    snapshots: new SnapshotsClient(client, snapshotter),
    reference: name,
    labels: source,
  });
  if (chainId !== "") await content.setLabels(manifest.config.digest, snapshotEdge(snapshotter, chainId));
  if (!inPlace) await new ImageRecords(client).put({ name, target: descriptor, labels: {} }, signal);
  return {
    image: name,
    digest: descriptor.digest,
    nydus: isNydusImage(manifest),
    namespace: client.namespace,
    snapshotter,
    chainId,
    layers,
    imageBytes: layers.reduce((sum, { size }) => sum + size, 0),
    fetchedBytes: layers.reduce((sum, { fetched }) => sum + fetched, 0),
  };
}

/** Where a blob came from, so that it can be pushed back without a transfer. The key has no room for a port. */
function sourceLabel({ registry, repository }: Reference): Record<string, string> {
  return { [`containerd.io/distribution.source.${registry.replace(/:\d+$/, "")}`]: repository };
}

function signalOf({ signal }: Pick<PullRequest, "signal">): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** The name that containerd will know the image by. @throws usage */
export function pullReference(text: string): Reference {
  return parseReference(text.replace(/^(?:docker:\/\/|containerd:)/, ""));
}
