/**
 * A containerd snapshotter: layers that containerd unpacks, containers on top of them, and Nydus images that are
 * mounted instead of unpacked. This class is the whole contract; `service.ts` only carries it over gRPC.
 *
 * eStargz and zstd:chunked layers that a client announces as such are not fetched either, nor those of an image that a
 * Nydus image refers to: a bootstrap is made of them when the first container needs it.
 *
 * How a Nydus image passes through: each data layer is committed at once, empty, and answered with `exists`, which tells
 * containerd not to fetch it; the bootstrap layer is prepared like any other and unpacked by containerd; a container on
 * top of it gets an overlay over the mounted image.
 *
 * @module
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { isDigest } from "../base/digest.ts";
import { isCode, NydusError } from "../base/error.ts";
import { type Logger, quietLogger } from "../base/log.ts";
import type { Mount, Usage } from "../containerd/snapshots.ts";
import { ANNOTATION } from "../oci/media-types.ts";
import { type AdoptLayers, isAdopted, noAdoption } from "./adopt-layers.ts";
import { CacheNeeds } from "./cache-needs.ts";
import { SnapshotDirectories } from "./directories.ts";
import { type Fields, parseFilters } from "./filters.ts";
import {
  changedLabels,
  type Labels,
  type LayerKind,
  type Purpose,
  purposeOf,
  withoutSecrets,
} from "./labels.ts";
import { mappedRoot, unmapLowers } from "./mapped-lowers.ts";
import { Metastore, type Snapshot } from "./metastore.ts";
import type { Mounter } from "./mounter.ts";
import type { LayerPlace, ReferredLayer } from "./referrers.ts";
import { namespaceOf } from "./resolve-reference.ts";
import {
  type FailedImage,
  type FindReferences,
  type RememberCredentials,
  SnapshotImages,
} from "./snapshot-images.ts";
import { Stacks } from "./stacks.ts";
import { diskUsage } from "./usage.ts";

export const DEFAULT_ROOT = "/var/lib/containerd/io.containerd.snapshotter.v1.nydus";

export interface SnapshotterOptions {
  readonly root: string;
  readonly mounter: Mounter;
  readonly findReferences?: FindReferences;
  readonly adopt?: AdoptLayers;
  /** Whether a Nydus image refers to a layer's image. */
  readonly findReferrer?: FindReferrer;
  readonly rememberCredentials?: RememberCredentials;
  readonly log?: Logger;
}

/** Undefined when there is none. Never fails. */
export type FindReferrer = (layer: ReferredLayer) => Promise<LayerPlace | undefined>;

export interface CreateRequest {
  readonly key: string;
  /** Empty for none. */
  readonly parent: string;
  readonly labels: Labels;
  /** The containerd namespace of the call, if it came with one. */
  readonly namespace?: string;
}

export interface CommitRequest {
  readonly name: string;
  readonly key: string;
  readonly labels: Labels;
  /** Gives a parent to a snapshot that was prepared without one. */
  readonly parent?: string;
}

/** What a layer that was recognised by its content says from then on. */
const RECOGNISED: Labels = { [ANNOTATION.nydusBootstrap]: "true" };
const NO_USAGE: Usage = { size: 0, inodes: 0 };

export class Snapshotter implements AsyncDisposable {
  readonly #metastore: Metastore;
  readonly #directories: SnapshotDirectories;
  readonly #mounter: Mounter;
  readonly #images: SnapshotImages;
  readonly #stacks: Stacks;
  readonly #needs: CacheNeeds;
  readonly #findReferrer: FindReferrer;
  readonly #log: Logger;

  private constructor(options: SnapshotterOptions, directories: SnapshotDirectories, metastore: Metastore) {
    this.#directories = directories;
    this.#metastore = metastore;
    this.#mounter = options.mounter;
    this.#log = options.log ?? quietLogger;
    this.#needs = new CacheNeeds(metastore, directories);
    this.#findReferrer = options.findReferrer ?? (async () => undefined);
    this.#images = new SnapshotImages({
      metastore,
      directories,
      mounter: options.mounter,
      adopt: options.adopt ?? noAdoption,
      findReferences: options.findReferences ?? (async () => []),
      rememberCredentials: options.rememberCredentials ?? (() => {}),
      log: this.#log,
    });
    this.#stacks = new Stacks({ metastore, directories, images: this.#images, log: this.#log });
  }

  /** Open the state below a root. Call `restore` after it; it may take a while. */
  static async open(options: SnapshotterOptions): Promise<Snapshotter> {
    const directories = new SnapshotDirectories(options.root);
    await mkdir(options.root, { recursive: true });
    const metastore = new Metastore(join(options.root, "metadata.db"));
    return new Snapshotter(options, directories, metastore);
  }

  /** After a start: remove what a kill left over, and bring back the mounts that containers need. Never fails. */
  async restore(): Promise<boolean> {
    const cleaned = this.cleanup().catch((error: unknown) => {
      this.#log.warn("cannot clean up", { error: String(error) });
    });
    const [well] = await Promise.all([this.repair(), cleaned]);
    return well;
  }

  /** Mount again what containers need and is not mounted. Never fails; false when something is still missing. */
  async repair(): Promise<boolean> {
    try {
      return await this.#images.repair();
    } catch (error) {
      this.#log.warn("cannot look after the mounts", { error: String(error) });
      return false;
    }
  }

  /** Images that containers need and that cannot be mounted at the moment. */
  get failedImages(): readonly FailedImage[] {
    return this.#images.failed;
  }

  /** @throws exists for a data layer (it is committed under its chain ID then), exists, not_found, usage */
  async prepare(request: CreateRequest): Promise<readonly Mount[]> {
    const purpose = purposeOf(request.labels);
    const { target } = purpose;
    if (target === undefined) return this.#create("active", request, purpose);
    if (purpose.layer === "nydus-data") {
      this.#skip(request, purpose, target, "nydus-data");
      void this.#images.announce();
      throw taken(target);
    }
    const place = await this.#lazyPlace(request, purpose);
    if (place === undefined) return this.#create("active", request, purpose);
    const skipped = this.#skip(request, purpose, target, "nydus-bootstrap");
    if (place === "top") void this.#images.adoptAhead(skipped);
    throw taken(target);
  }

  async view(request: CreateRequest): Promise<readonly Mount[]> {
    return this.#create("view", request, purposeOf(request.labels));
  }

  /**
   * Where a layer that need not be fetched is in its image. Of layers with a table of contents each below must be one, for
   * an image is mounted as a whole.
   */
  async #lazyPlace({ parent }: CreateRequest, purpose: Purpose): Promise<LayerPlace | undefined> {
    const { layer, target = "", hasToc, reference, manifest, credentials } = purpose;
    if (layer !== "plain" || reference === undefined) return undefined;
    if (credentials !== undefined) this.#images.remember(0, credentials, reference);
    const below = parent === "" ? undefined : this.#metastore.find(parent);
    if (hasToc && (parent === "" || (below !== undefined && isAdopted(below)))) return "lower";
    if (manifest === undefined || !isDigest(target)) return undefined;
    return await this.#findReferrer({ reference, manifest, chainId: target });
  }

  /** Commit a layer without its data. The same layer may be there already, even from another namespace. */
  #skip(request: CreateRequest, purpose: Purpose, target: string, layer: LayerKind): Snapshot {
    const { parent } = request;
    const there = this.#metastore.find(target);
    const isOther = there !== undefined && there.parent !== parent;
    const name = isOther ? `${target}@${parent}` : target;
    try {
      return this.#metastore.create(
        {
          name,
          parent,
          kind: "committed",
          layer,
          labels: withoutSecrets(request.labels),
          ...namespaceIn(request),
          ...(layer === "nydus-bootstrap" && purpose.reference !== undefined
            ? { reference: purpose.reference }
            : {}),
          blobs: purpose.blob === undefined ? [] : [purpose.blob.slice("sha256:".length)],
        },
        ({ id }) => this.#directories.create(id, { work: false }),
      );
    } catch (error) {
      if (!isCode(error, "exists")) throw error;
      return this.#metastore.get(name);
    }
  }

  async #create(
    kind: "active" | "view",
    request: CreateRequest,
    purpose: Purpose,
  ): Promise<readonly Mount[]> {
    const snapshot = this.#metastore.create(
      {
        name: request.key,
        parent: request.parent,
        kind,
        layer: kind === "active" ? purpose.layer : "plain",
        labels: withoutSecrets(request.labels),
        ...namespaceIn(request),
        ...(purpose.reference === undefined ? {} : { reference: purpose.reference }),
      },
      ({ id }) => this.#directories.create(id, { work: kind === "active" }),
    );
    if (purpose.credentials !== undefined) {
      this.#images.remember(snapshot.id, purpose.credentials, purpose.reference);
    }
    try {
      const stack = await this.#stacks.below(snapshot);
      if (kind === "active") await this.#directories.inheritRoot(snapshot.id, stack.top, mappedRoot(purpose));
      return this.#stacks.mounts(snapshot, kind, stack);
    } catch (error) {
      await this.remove(request.key).catch(() => {}); // what it leaves, `cleanup` takes
      throw error;
    }
  }

  /** @throws not_found, busy for a committed snapshot */
  async mounts(key: string): Promise<readonly Mount[]> {
    const snapshot = this.#metastore.get(key);
    if (snapshot.kind === "committed")
      throw new NydusError("busy", `Cannot mount snapshot "${key}": it is committed; prepare or view it`);
    return this.#stacks.mounts(snapshot, snapshot.kind, await this.#stacks.below(snapshot));
  }

  /** @throws not_found, exists, busy */
  async commit(request: CommitRequest): Promise<void> {
    const active = this.#metastore.get(request.key);
    const usage = active.kind === "active" ? await diskUsage(this.#directories.files(active.id)) : NO_USAGE;
    const layer = await this.#kindOf(active);
    this.#metastore.commit(request.key, request.name, {
      layer,
      labels: { ...withoutSecrets(request.labels), ...(layer === active.layer ? {} : RECOGNISED) },
      usage,
      ...(request.parent === undefined ? {} : { parent: request.parent }),
    });
    if (layer === "nydus-bootstrap") void this.#images.expect(active.id);
  }

  /** A plain pull tells nothing: a bootstrap alone, on layers without files, is that of a Nydus image. */
  async #kindOf(active: Snapshot): Promise<LayerKind> {
    if (active.layer !== "plain" || !(await this.#directories.isBootstrapOnly(active.id)))
      return active.layer;
    for (const { id, layer } of this.#metastore.ancestors(active.id))
      if (layer === "nydus-bootstrap" || !(await this.#directories.isEmpty(id))) return "plain";
    return "nydus-bootstrap";
  }

  /** @throws not_found, busy while other snapshots are built on it */
  async remove(key: string): Promise<void> {
    const below = this.#imageBelow(this.#metastore.get(key));
    const { id, layer } = this.#metastore.remove(key);
    unmapLowers(this.#directories.snapshots, id);
    if (below !== undefined) await this.#images.release(below.id);
    if (layer === "nydus-bootstrap") await this.#images.release(id);
    this.#images.forget(id);
    try {
      await this.#directories.discard(String(id));
    } catch (error) {
      // The snapshot is gone all the same; `cleanup` takes the directory when it can.
      this.#log.warn("cannot remove a directory", { snapshot: id, error: String(error) });
    }
  }

  #imageBelow(snapshot: Snapshot): Snapshot | undefined {
    if (snapshot.kind === "committed") return undefined;
    return this.#metastore.ancestors(snapshot.id).find(({ layer }) => layer === "nydus-bootstrap");
  }

  /** @throws not_found */
  async stat(key: string): Promise<Snapshot> {
    return this.#metastore.get(key);
  }

  /** Change labels, see `changedLabels`. @throws not_found, usage for anything that cannot change */
  async update(key: string, labels: Labels, paths: readonly string[]): Promise<Snapshot> {
    const fixed = paths.find((path) => path !== "labels" && !path.startsWith("labels."));
    if (fixed !== undefined)
      throw new NydusError("usage", `Cannot update "${fixed}" of snapshot "${key}": only labels can change`);
    return this.#metastore.setLabels(key, (old) => changedLabels(old, labels, paths));
  }

  async list(filters: readonly string[] = []): Promise<readonly Snapshot[]> {
    const matches = parseFilters(filters);
    return this.#metastore.list().filter((snapshot) => matches(fieldsOf(snapshot)));
  }

  /**
   * Bytes and inodes on disk: of a data layer also what the cache holds of its blob, of a bootstrap layer what it
   * holds of blobs that no layer below stands for.
   *
   * @throws not_found
   */
  async usage(key: string): Promise<Usage> {
    const { id, kind, layer, blobs, usage } = this.#metastore.get(key);
    if (kind !== "committed") return diskUsage(this.#directories.files(id));
    const below = layer === "nydus-bootstrap" ? this.#metastore.ancestors(id) : [];
    const counted = new Set(below.flatMap((ancestor) => ancestor.blobs));
    let { size, inodes } = usage;
    for (const blob of blobs) {
      const cached = counted.has(blob) ? 0 : await this.#mounter.cacheUsage(blob);
      size += cached;
      inodes += cached > 0 ? 1 : 0;
    }
    return { size, inodes };
  }

  /** Remove what no snapshot refers to: mounts, directories, cached data. containerd calls it after each collection. */
  async cleanup(): Promise<void> {
    await this.#images.releaseUnused();
    const known = new Set(this.#metastore.list().map(({ id }) => id));
    for (const name of await this.#directories.orphans(known)) {
      // Made since, or still in use: then it is no orphan, or not removable now.
      if (this.#metastore.byId(Number(name)) !== undefined) continue;
      await this.#mounter.umount(name).catch(() => {});
      unmapLowers(this.#directories.snapshots, Number(name));
      await this.#directories.discard(name).catch((error: unknown) => {
        this.#log.warn("cannot remove a directory", { snapshot: name, error: String(error) });
      });
    }
    await this.#directories.emptyTrash();
    await this.collect();
  }

  /** Let go of cached data that no snapshot needs any more, once its time has come. */
  async collect(): Promise<void> {
    await this.#mounter.collect(await this.#needs.find());
  }

  /** Mounts of running containers stay. Closing twice is harmless. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#metastore.close();
  }
}

/** Tells containerd that it need not fetch the layer. */
function taken(target: string): NydusError {
  return new NydusError("exists", `target snapshot "${target}"`);
}

function namespaceIn(request: CreateRequest): { namespace?: string } {
  const namespace = request.namespace ?? namespaceOf(request.key);
  return namespace === undefined ? {} : { namespace };
}

function fieldsOf(snapshot: Snapshot): Fields {
  return ([first, ...rest]) => {
    if (first === "name") return snapshot.name;
    if (first === "parent") return snapshot.parent; // no parent is one: containerd asks for `parent==""`
    if (first === "kind") return snapshot.kind;
    return first === "labels" ? snapshot.labels[rest.join(".")] : undefined;
  };
}
