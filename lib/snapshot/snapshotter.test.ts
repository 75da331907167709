import { mkdtemp, rm } from "node:fs/promises";
import type { AnySnapshotter } from "../../tests/support/any-snapshotter.ts";
import { testSnapshotter } from "../../tests/support/snapshotter-contract.ts";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { Snapshotter } from "./snapshotter.ts";

testSnapshotter("Snapshotter", async (): Promise<AnySnapshotter> => {
  const root = await mkdtemp("/tmp/nt-root-");
  const snapshotter = await Snapshotter.open({ root, mounter: new TestMounter() });
  return {
    prepare: (key, parent, labels) => snapshotter.prepare({ key, parent, labels }),
    view: (key, parent, labels) => snapshotter.view({ key, parent, labels }),
    mounts: (key) => snapshotter.mounts(key),
    commit: (name, key, labels) => snapshotter.commit({ name, key, labels }),
    remove: (key) => snapshotter.remove(key),
    stat: (key) => snapshotter.stat(key),
    update: (name, labels, paths) => snapshotter.update(name, labels, paths),
    list: (filters) => snapshotter.list(filters),
    usage: (key) => snapshotter.usage(key),
    cleanup: () => snapshotter.cleanup().then(() => true),
    async close() {
      await snapshotter[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    },
  };
});
