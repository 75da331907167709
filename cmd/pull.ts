/**
 * `nydus-tool pull`: an image into containerd, without its data if it is a Nydus image; or a copy to another place.
 *
 * @module
 */
import { ContainerdClient } from "../lib/containerd/client.ts";
import { copyImage } from "../lib/image/copy.ts";
import { loadImage } from "../lib/image/load.ts";
import { openStore } from "../lib/image/open.ts";
import { parsePlatform } from "../lib/oci/platform.ts";
import { type PullReport, pullImage, pullReference } from "../lib/snapshot/pull.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { formatBytes } from "./progress.ts";
import {
  CONTAINERD_FLAGS,
  containerdOptions,
  REGISTRY_FLAGS,
  registryAccess,
  SNAPSHOTTER_FLAG,
  snapshotterName,
} from "./registry-flags.ts";

export const pull: Command = {
  name: "pull",
  summary: "Pull an image into containerd, lazily if it is a Nydus image; with a TARGET, copy it there",
  operands: "IMAGE [TARGET]",
  arity: [1, 2],
  flags: {
    ...CONTAINERD_FLAGS,
    snapshotter: SNAPSHOTTER_FLAG,
    platform: { type: "string", value: "OS/ARCH", help: "which image of an index (this machine's)" },
    referrers: {
      type: "boolean",
      help: "in the place of an ordinary image, a Nydus image that refers to it (whoever can push there can put one)",
    },
    ...REGISTRY_FLAGS,
    json: { type: "boolean", help: "say what was pulled as JSON" },
  },
  examples: [
    ["nydus-tool pull registry.example/app:nydus", "then: ctr run --snapshotter nydus ... or nerdctl"],
    ["nydus-tool pull --namespace k8s.io registry.example/app:nydus", "for the pods of this node"],
    ["nydus-tool pull --snapshotter overlayfs docker.io/library/debian:12", "an ordinary image, anywhere"],
    ["nydus-tool pull containerd:app:1-nydus", "an image that containerd has: only unpacked"],
    ["nydus-tool pull registry.example/app:nydus oci:./app:nydus", "all of it, into a local layout"],
  ],
  async run(args, context) {
    if (args.operands.length > 1) return await copyTo(args.operand(1), args, context);
    const report = await pullIntoContainerd(args, context);
    if (args.boolean("json")) context.print(JSON.stringify(report, undefined, 2));
    else for (const line of summary(report)) context.print(line);
  },
};

async function pullIntoContainerd(args: Arguments, context: Context): Promise<PullReport> {
  const { env, log, signal } = context;
  const reference = pullReference(args.operand(0));
  const access = { ...registryAccess(args), signal };
  const platform = args.string("platform");
  await using client = new ContainerdClient(containerdOptions(args, env));
  const { store } = await openStore(args.operand(0), access);
  await using _store = store;
  return await pullImage({
    store,
    reference,
    client,
    referrers: args.boolean("referrers"),
    snapshotter: snapshotterName(args, env),
    inPlace: args.operand(0).startsWith("containerd:"),
    ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
    progress: context.progress(),
    log,
    signal,
  });
}

/** As it is: the whole index, or with `--platform` one image of it. */
async function copyTo(target: string, args: Arguments, context: Context): Promise<void> {
  const { signal, print } = context;
  const access = { ...registryAccess(args), signal };
  const source = await openStore(args.operand(0), access);
  await using from = source.store;
  const { store, reference } = await openStore(target, { ...access, create: true });
  await using to = store;
  const platform = args.string("platform");
  const root =
    platform === undefined
      ? await from.resolve(source.reference, { signal })
      : (await loadImage(from, source.reference, { platform: parsePlatform(platform), signal })).descriptor;
  const report = await copyImage(from, root, to, reference, { signal, progress: context.progress() });
  if (args.boolean("json")) return print(JSON.stringify({ ...report, target }, undefined, 2));
  print(`copied ${args.operand(0)} to ${target} (${root.digest})`);
  print(`sent ${report.blobs} blobs, ${formatBytes(report.bytes)}; ${report.skipped} were there`);
}

function summary(report: PullReport): string[] {
  const amount = `${formatBytes(report.fetchedBytes)} of ${formatBytes(report.imageBytes)}`;
  const kind = report.nydus ? "Nydus image: data comes when it is read" : "ordinary image";
  return [
    `pulled ${report.image} (${report.digest})`,
    `into namespace ${report.namespace}, snapshotter ${report.snapshotter}; ${kind}`,
    `fetched ${amount}`,
  ];
}
