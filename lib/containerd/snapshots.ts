/** Client of containerd's snapshots service: one snapshotter, in one namespace. @module */

import { isCode, NydusError } from "../base/error.ts";
import type { ContainerdClient } from "./client.ts";
import { type Info as InfoMessage, Kind, Snapshots } from "./gen/snapshots_pb.ts";

/** One mount(2) to make, in order, to see a snapshot. */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export type SnapshotKind = "active" | "view" | "committed";

export interface SnapshotInfo {
  /** The key of an active snapshot or view, the name of a committed one. */
  readonly name: string;
  /** Empty when it stands alone. */
  readonly parent: string;
  readonly kind: SnapshotKind;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Usage {
  /** Bytes on disk. */
  readonly size: number;
  readonly inodes: number;
}

interface Options {
  readonly signal?: AbortSignal;
}

interface Labelled extends Options {
  readonly labels?: Readonly<Record<string, string>>;
}

export class SnapshotsClient {
  readonly #client: ContainerdClient;
  readonly snapshotter: string;

  constructor(client: ContainerdClient, snapshotter: string) {
    this.#client = client;
    this.snapshotter = snapshotter;
  }

  /** @throws exists when the snapshotter has the layer that the label `containerd.io/snapshot.ref` names */
  async prepare(key: string, parent: string, options: Labelled = {}): Promise<readonly Mount[]> {
    const { labels = {}, ...call } = options;
    const request = { snapshotter: this.snapshotter, key, parent, labels: { ...labels } };
    const { mounts } = await this.#client.call(`prepare snapshot "${key}"`, () =>
      this.#client.service(Snapshots).prepare(request, call),
    );
    return mounts;
  }

  async view(key: string, parent: string, options: Labelled = {}): Promise<readonly Mount[]> {
    const { labels = {}, ...call } = options;
    const request = { snapshotter: this.snapshotter, key, parent, labels: { ...labels } };
    const { mounts } = await this.#client.call(`view snapshot "${parent}"`, () =>
      this.#client.service(Snapshots).view(request, call),
    );
    return mounts;
  }

  /** Those of a prepared snapshot or a view, again. @throws not_found */
  async mounts(key: string, options: Options = {}): Promise<readonly Mount[]> {
    const request = { snapshotter: this.snapshotter, key };
    const { mounts } = await this.#client.call(`mount snapshot "${key}"`, () =>
      this.#client.service(Snapshots).mounts(request, options),
    );
    return mounts;
  }

  async commit(name: string, key: string, options: Labelled = {}): Promise<void> {
    const { labels = {}, ...call } = options;
    const request = { snapshotter: this.snapshotter, name, key, labels: { ...labels } };
    await this.#client.call(`commit snapshot "${name}"`, () =>
      this.#client.service(Snapshots).commit(request, call),
    );
  }

  /** Undefined when there is none. */
  async stat(key: string, options: Options = {}): Promise<SnapshotInfo | undefined> {
    try {
      return await this.#client.call(`look up snapshot "${key}"`, async () => {
        const request = { snapshotter: this.snapshotter, key };
        const { info } = await this.#client.service(Snapshots).stat(request, options);
        return info === undefined ? undefined : infoOf(info);
      });
    } catch (error) {
      if (isCode(error, "not_found")) return undefined;
      throw error;
    }
  }

  async list(filters: readonly string[] = [], options: Options = {}): Promise<readonly SnapshotInfo[]> {
    return this.#client.call("list snapshots", async () => {
      const request = { snapshotter: this.snapshotter, filters: [...filters] };
      const found: SnapshotInfo[] = [];
      for await (const part of this.#client.service(Snapshots).list(request, options))
        found.push(...part.info.map(infoOf));
      return found;
    });
  }

  async usage(key: string, options: Options = {}): Promise<Usage> {
    const request = { snapshotter: this.snapshotter, key };
    const usage = await this.#client.call(`measure snapshot "${key}"`, () =>
      this.#client.service(Snapshots).usage(request, options),
    );
    return { size: Number(usage.size), inodes: Number(usage.inodes) };
  }

  /** Removing what is not there is a no-op. */
  async remove(key: string, options: Options = {}): Promise<void> {
    try {
      await this.#client.call(`remove snapshot "${key}"`, () =>
        this.#client.service(Snapshots).remove({ snapshotter: this.snapshotter, key }, options),
      );
    } catch (error) {
      if (!isCode(error, "not_found")) throw error;
    }
  }
}

const KINDS: Readonly<Partial<Record<Kind, SnapshotKind>>> = {
  [Kind.VIEW]: "view",
  [Kind.ACTIVE]: "active",
  [Kind.COMMITTED]: "committed",
};

function infoOf(info: InfoMessage): SnapshotInfo {
  const kind = KINDS[info.kind];
  if (kind === undefined)
    throw new NydusError("corrupt", `Cannot read snapshot "${info.name}": its kind is ${info.kind}`);
  return { name: info.name, parent: info.parent, kind, labels: info.labels };
}
