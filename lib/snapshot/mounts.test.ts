import { expect, test } from "vitest";
import type { Mount } from "../containerd/snapshots.ts";
import { type MountPlan, mountsOf } from "./mounts.ts";

const own = { files: "/r/9/fs", work: "/r/9/work" };
const bind = (source: string, ...options: string[]): Mount => ({ type: "bind", source, options });
const overlay = (...options: string[]): Mount => ({ type: "overlay", source: "overlay", options });
const mapped = { uidMapping: "0:1:2", gidMapping: "0:3:4" };

test.each<readonly [what: string, plan: Omit<MountPlan, "files" | "work">, mount: Mount]>([
  ["active on nothing", { kind: "active", layers: [] }, bind("/r/9/fs", "rw", "rbind")],
  ["view of nothing", { kind: "view", layers: [] }, bind("/r/9/fs", "ro", "rbind")],
  ["view of one layer", { kind: "view", layers: ["/r/1/fs"] }, bind("/r/1/fs", "ro", "rbind")],
  [
    "active on one layer",
    { kind: "active", layers: ["/r/1/fs"] },
    overlay("workdir=/r/9/work", "upperdir=/r/9/fs", "lowerdir=/r/1/fs"),
  ],
  [
    "active on layers",
    { kind: "active", layers: ["/r/2/fs", "/r/1/fs"], volatile: true, ...mapped },
    overlay(
      ...["workdir=/r/9/work", "upperdir=/r/9/fs", "volatile", "uidmap=0:1:2", "gidmap=0:3:4"],
      "lowerdir=/r/2/fs:/r/1/fs",
    ),
  ],
  ["view of layers", { kind: "view", layers: ["/r/2/fs", "/r/1/fs"] }, overlay("lowerdir=/r/2/fs:/r/1/fs")],
  [
    "active on a Nydus image",
    { kind: "active", layers: [], image: "/r/3/mnt" },
    overlay("workdir=/r/9/work", "upperdir=/r/9/fs", "lowerdir=/r/3/mnt"),
  ],
  [
    "volatile on a Nydus image",
    { kind: "active", layers: [], image: "/r/3/mnt", volatile: true },
    overlay("volatile", "workdir=/r/9/work", "upperdir=/r/9/fs", "lowerdir=/r/3/mnt"),
  ],
  [
    "active on layers above a Nydus image",
    { kind: "active", layers: ["/r/4/fs"], image: "/r/3/mnt" },
    overlay("workdir=/r/9/work", "upperdir=/r/9/fs", "lowerdir=/r/4/fs:/r/3/mnt"),
  ],
  [
    "view of a Nydus image",
    { kind: "view", layers: [], image: "/r/3/mnt" },
    overlay("lowerdir=/r/3/mnt:/r/9/fs"),
  ],
  [
    "view of layers above a Nydus image",
    { kind: "view", layers: ["/r/4/fs"], image: "/r/3/mnt" },
    overlay("lowerdir=/r/4/fs:/r/3/mnt"),
  ],
])("mountsOf() mounts %s", (_, plan, mount) => {
  expect(mountsOf({ ...own, ...plan })).toEqual([mount]);
});
