/**
 * The verbs, one file each, in the order of `--help`. Each is loaded when it is asked for: starting the program, which a
 * mount does three times, costs half as much.
 *
 * @module
 */
import type { Command } from "./command.ts";

export interface Verb extends Pick<Command, "name" | "summary" | "hidden"> {
  load(): Promise<Command>;
}

export const VERBS: readonly Verb[] = [
  {
    name: "convert",
    summary: "Convert an image or a directory to a Nydus image",
    load: async () => (await import("./convert.ts")).convert,
  },
  {
    name: "optimize",
    summary: "Lay together what a start of an image reads",
    load: async () => (await import("./optimize.ts")).optimize,
  },
  {
    name: "pull",
    summary: "Pull an image into containerd, lazily if it is a Nydus image; with a TARGET, copy it there",
    load: async () => (await import("./pull.ts")).pull,
  },
  {
    name: "mount",
    summary: "Mount an image without downloading it",
    load: async () => (await import("./mount.ts")).mount,
  },
  {
    name: "umount",
    summary: "Unmount what mount mounted",
    load: async () => (await import("./umount.ts")).umount,
  },
  {
    name: "unpack",
    summary: "Unpack an image to a directory or a tar",
    load: async () => (await import("./unpack.ts")).unpack,
  },
  {
    name: "check",
    summary: "Verify every structure of a bootstrap, and with --data every chunk",
    load: async () => (await import("./check.ts")).check,
  },
  {
    name: "inspect",
    summary: "Show what is in an image: superblock, blobs, the tree, one path, one chunk",
    load: async () => (await import("./inspect.ts")).inspect,
  },
  {
    name: "stat",
    summary: "Show sizes, deduplication and compression of images, by layer and by kind",
    load: async () => (await import("./stat.ts")).stat,
  },
  {
    name: "diff",
    summary: "Compare the files of two images, bootstraps or directories; exits 1 when they differ",
    load: async () => (await import("./diff.ts")).diff,
  },
  {
    name: "merge",
    summary: "Merge bootstraps of layers, lowest first, into the bootstrap of an image",
    load: async () => (await import("./merge.ts")).merge,
  },
  {
    name: "chunkdict generate",
    summary: "Make a chunk dictionary of several Nydus images, for convert --chunk-dict",
    load: async () => (await import("./chunkdict-generate.ts")).chunkdictGenerate,
  },
  {
    name: "trace push",
    summary: "Keep what a start reads beside its image, for every node",
    load: async () => (await import("./trace.ts")).tracePush,
  },
  {
    name: "trace pull",
    summary: "Get the list that is kept beside an image",
    load: async () => (await import("./trace.ts")).tracePull,
  },
  {
    name: "snapshotter serve",
    summary: "Serve containerd as a remote snapshotter",
    load: async () => (await import("./snapshotter-serve.ts")).snapshotterServe,
  },
  {
    name: "snapshotter install",
    summary: "Make the snapshotter a service of this node, and tell containerd of it",
    load: async () => (await import("./snapshotter-install.ts")).snapshotterInstall,
  },
  {
    name: "snapshotter uninstall",
    summary: "Take away what install has put on this node; images' data stays",
    load: async () => (await import("./snapshotter-install.ts")).snapshotterUninstall,
  },
  {
    name: "snapshotter doctor",
    summary: "Look at kernel, containerd, service and registries, and say what to do",
    load: async () => (await import("./snapshotter-doctor.ts")).snapshotterDoctor,
  },
  {
    name: "status",
    summary: "Show what is mounted, by which driver, and how much was fetched",
    load: async () => (await import("./status.ts")).status,
  },
  {
    name: "upgrade",
    summary: "Go on with this version of the program, while everything stays mounted",
    load: async () => (await import("./upgrade.ts")).upgrade,
  },
  {
    name: "scrub",
    summary: "Read back what is cached of mounted images; fetch again what is damaged",
    load: async () => (await import("./scrub.ts")).scrub,
  },
  {
    name: "registry serve",
    summary: "Serve a directory as a container registry (no authentication: keep it on loopback)",
    load: async () => (await import("./registry-serve.ts")).registryServe,
  },
  {
    name: "mount-server",
    summary: "Serve image data to the kernel (started by other verbs)",
    hidden: true,
    load: async () => (await import("./mount-server.ts")).mountServer,
  },
  {
    name: "mount-keeper",
    summary: "Keep a mount's serving process running (started by other verbs)",
    hidden: true,
    load: async () => (await import("./mount-keeper.ts")).mountKeeper,
  },
  {
    name: "stream-processor",
    summary: "Pass a data layer to containerd (started by containerd)",
    hidden: true,
    load: async () => (await import("./stream-processor.ts")).streamProcessor,
  },
  {
    name: "mount-erofs",
    summary: "Call mount(2) for EROFS beside the process that serves its devices (started by other verbs)",
    hidden: true,
    load: async () => (await import("./mount-erofs.ts")).mountErofsVerb,
  },
];
