/**
 * `nydus-tool pull`: an image into containerd, without its data if it is a Nydus image.
 *
 * @module
 */
import { ContainerdClient, DEFAULT_ADDRESS, DEFAULT_NAMESPACE } from "../lib/containerd/client.ts";
import { openStore } from "../lib/image/open.ts";
import { parsePlatform } from "../lib/oci/platform.ts";
import { type PullReport, pullImage, pullReference } from "../lib/snapshot/pull.ts";
import type { Arguments, Command, Context } from "./command.ts";
import { formatBytes } from "./progress.ts";

const DEFAULT_SNAPSHOTTER = "nydus";

export const pull: Command = {
  name: "pull",
  summary: "Pull an image into containerd, lazily if it is a Nydus image",
  operands: "IMAGE",
  arity: [1, 1],
  flags: {
    "containerd-address": {
      type: "string",
      value: "SOCKET",
      help: `containerd's socket (CONTAINERD_ADDRESS, ${DEFAULT_ADDRESS})`,
    },
    namespace: {
      type: "string",
      short: "n",
      value: "NAME",
      help: `of containerd; k8s.io for Kubernetes (CONTAINERD_NAMESPACE, ${DEFAULT_NAMESPACE})`,
    },
    snapshotter: {
      type: "string",
      value: "NAME",
      help: `as containerd's config.toml names it (CONTAINERD_SNAPSHOTTER, ${DEFAULT_SNAPSHOTTER})`,
    },
    platform: { type: "string", value: "OS/ARCH", help: "which image of an index (this machine's)" },
    "plain-http": { type: "boolean", help: "talk http to the registry (loopback needs no flag)" },
    insecure: { type: "boolean", help: "do not check the registry's certificate" },
    json: { type: "boolean", help: "say what was pulled as JSON" },
  },
  examples: [
    ["nydus-tool pull registry.example/app:nydus", "then: ctr run --snapshotter nydus ... or nerdctl"],
    ["nydus-tool pull --namespace k8s.io registry.example/app:nydus", "for the pods of this node"],
    ["nydus-tool pull --snapshotter overlayfs docker.io/library/debian:12", "an ordinary image, anywhere"],
  ],
  async run(args, context) {
    const report = await pullIntoContainerd(args, context);
    if (args.boolean("json")) context.print(JSON.stringify(report, undefined, 2));
    else for (const line of summary(report)) context.print(line);
  },
};

async function pullIntoContainerd(args: Arguments, context: Context): Promise<PullReport> {
  const { env, log, signal } = context;
  const reference = pullReference(args.operand(0));
  const access = { plainHttp: args.boolean("plain-http"), insecure: args.boolean("insecure"), signal };
  const platform = args.string("platform");
  await using client = new ContainerdClient({
    address: args.string("containerd-address") ?? env.CONTAINERD_ADDRESS ?? DEFAULT_ADDRESS,
    namespace: args.string("namespace") ?? env.CONTAINERD_NAMESPACE ?? DEFAULT_NAMESPACE,
  });
  const { store } = await openStore(args.operand(0), access);
  await using _store = store;
  return await pullImage({
    store,
    reference,
    client,
    snapshotter: args.string("snapshotter") ?? env.CONTAINERD_SNAPSHOTTER ?? DEFAULT_SNAPSHOTTER,
    ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
    progress: context.progress(),
    log,
    signal,
  });
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
