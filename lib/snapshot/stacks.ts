/**
 * What is below a snapshot: its plain layers, down to a Nydus image if there is one, which is mounted when somebody asks.
 *
 * @module
 */
import type { Logger } from "../base/log.ts";
import type { Mount } from "../containerd/snapshots.ts";
import type { SnapshotDirectories } from "./directories.ts";
import { purposeOf } from "./labels.ts";
import { type IdMapping, type Lowers, mapLowers } from "./mapped-lowers.ts";
import type { Metastore, Snapshot } from "./metastore.ts";
import { mountsOf } from "./mounts.ts";
import { namespaceOf } from "./resolve-reference.ts";
import type { SnapshotImages } from "./snapshot-images.ts";

interface Parts {
  readonly metastore: Metastore;
  readonly directories: SnapshotDirectories;
  readonly images: SnapshotImages;
  readonly log: Logger;
}

export interface Stack extends Lowers {
  /** Of owners, where the directories are not mapped themselves. */
  readonly mapping?: IdMapping;
  /** Whose root directory shows through. */
  readonly top: string | undefined;
}

export class Stacks {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** As a container in a user namespace sees it, if it is in one. */
  async below(snapshot: Snapshot): Promise<Stack> {
    const { directories, log } = this.#parts;
    const { uidMapping, gidMapping } = purposeOf(snapshot.labels);
    const stack = await this.#directoriesBelow(snapshot);
    if (uidMapping === undefined || gidMapping === undefined || stack.top === undefined) return stack;
    const mapping = { uidMapping, gidMapping };
    try {
      return { ...stack, ...(await mapLowers(directories, snapshot.id, stack, mapping)) };
    } catch (error) {
      log.warn("cannot map the owners of layers; containerd is asked to", {
        snapshot: snapshot.name,
        error: error instanceof Error ? error.message : String(error),
      });
      return { ...stack, mapping };
    }
  }

  /** Top first: plain layers down to a mounted image, or all layers. */
  async #directoriesBelow(snapshot: Snapshot): Promise<Stack> {
    const { metastore, directories, images } = this.#parts;
    const layers: string[] = [];
    for (const layer of metastore.ancestors(snapshot.id)) {
      if (layer.layer === "nydus-bootstrap") {
        const image = await images.ensure(layer, snapshot.namespace ?? namespaceOf(snapshot.name));
        return { layers, image, top: layers[0] ?? image };
      }
      layers.push(directories.files(layer.id));
    }
    return { layers, top: layers[0] };
  }

  /** What containerd mounts to see the snapshot on what is below it. */
  mounts({ id, labels }: Snapshot, kind: "active" | "view", stack: Stack): readonly Mount[] {
    const { directories } = this.#parts;
    return mountsOf({
      kind,
      files: directories.files(id),
      work: directories.work(id),
      layers: stack.layers,
      volatile: purposeOf(labels).volatile,
      ...(stack.image === undefined ? {} : { image: stack.image }),
      ...stack.mapping,
    });
  }
}
