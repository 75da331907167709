/** A snapshotter behind a gRPC socket, for the contract suite: ours directly, or any through containerd. @module */

import { isCode } from "../../lib/base/error.ts";
import { ContainerdClient } from "../../lib/containerd/client.ts";
import { type Info as InfoMessage, Kind, Snapshots } from "../../lib/containerd/gen/snapshots_pb.ts";
import type { AnySnapshotter, Info } from "./any-snapshotter.ts";

/** @param snapshotter the plugin's name; a proxy that is asked directly ignores it */
export function remoteSnapshotter(
  address: string,
  snapshotter: string,
  closed: () => Promise<void>,
): AnySnapshotter {
  const client = new ContainerdClient({ address, namespace: "contract" });
  const snapshots = client.service(Snapshots);
  const call = <T>(work: () => Promise<T>): Promise<T> => client.call("call", work);
  return {
    prepare: (key, parent, labels) =>
      call(async () => (await snapshots.prepare({ snapshotter, key, parent, labels })).mounts),
    view: (key, parent, labels) =>
      call(async () => (await snapshots.view({ snapshotter, key, parent, labels })).mounts),
    mounts: (key) => call(async () => (await snapshots.mounts({ snapshotter, key })).mounts),
    commit: (name, key, labels) =>
      call(async () => void (await snapshots.commit({ snapshotter, name, key, labels }))),
    remove: (key) => call(async () => void (await snapshots.remove({ snapshotter, key }))),
    stat: (key) => call(async () => infoOf((await snapshots.stat({ snapshotter, key })).info)),
    update: (name, labels, paths) =>
      call(async () => {
        const updateMask = { paths: [...paths] };
        return infoOf((await snapshots.update({ snapshotter, info: { name, labels }, updateMask })).info);
      }),
    list: (filters) =>
      call(async () => {
        const found: Info[] = [];
        for await (const part of snapshots.list({ snapshotter, filters: [...filters] }))
          found.push(...part.info.map(infoOf));
        return found;
      }),
    usage: (key) =>
      call(async () => {
        const { size, inodes } = await snapshots.usage({ snapshotter, key });
        return { size: Number(size), inodes: Number(inodes) };
      }),
    cleanup: () =>
      call(() => snapshots.cleanup({ snapshotter })).then(
        () => true,
        (error: unknown) => {
          if (isCode(error, "unsupported")) return false;
          throw error;
        },
      ),
    async close() {
      await client[Symbol.asyncDispose]();
      await closed();
    },
  };
}

const KINDS: Readonly<Partial<Record<Kind, Info["kind"]>>> = {
  [Kind.VIEW]: "view",
  [Kind.ACTIVE]: "active",
  [Kind.COMMITTED]: "committed",
};

function infoOf(info: InfoMessage | undefined): Info {
  const kind = info === undefined ? undefined : KINDS[info.kind];
  if (info === undefined || kind === undefined)
    throw new Error("Cannot read a snapshot's info: it has no kind");
  const ms = (time: InfoMessage["createdAt"]): number =>
    Number(time?.seconds ?? 0n) * 1000 + (time?.nanos ?? 0) / 1e6;
  return {
    name: info.name,
    parent: info.parent,
    kind,
    labels: info.labels,
    created: ms(info.createdAt),
    updated: ms(info.updatedAt),
  };
}
