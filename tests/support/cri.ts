/**
 * Plays the kubelet to a private containerd: CRI calls over its socket, pods in a network of their own (a real CNI
 * plugin, one veth pair a pod, nothing left on the host afterwards), images on one snapshotter.
 *
 * @module
 */
import { mkdirSync, writeFileSync } from "node:fs";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { ContainerdClient } from "../../lib/containerd/client.ts";
import { type AuthConfigSchema, ImageService } from "../../lib/containerd/gen/cri_pb.ts";
import { type Containerd, startNodeContainerd } from "./containerd.ts";
import { ContainerState, RuntimeService } from "./gen/cri-runtime_pb.ts";
import { waitFor } from "./process.ts";
import type { Workspace } from "./workspace.ts";

export interface CriOptions {
  /** Reference of the image that keeps a pod's namespaces. */
  readonly pause: string;
  /** The pods'; each of the tests that may run at once needs one of its own. */
  readonly subnet?: string;
}

const CRI = 'plugins."io.containerd.grpc.v1.cri"';

/** A node's containerd that a kubelet may use. */
export async function startCriContainerd(place: Workspace, options: CriOptions): Promise<Containerd> {
  return await startNodeContainerd(place, { cri: true, config: criConfig(place.path("k"), options) });
}

/** Lines for config.toml; CNI's configuration and addresses are in the directory. */
function criConfig(directory: string, { pause, subnet = "10.213.0.0/24" }: CriOptions): string {
  mkdirSync(`${directory}/cni`, { recursive: true });
  const ptp = {
    type: "ptp",
    ipam: { type: "host-local", dataDir: `${directory}/addresses`, ranges: [[{ subnet }]] },
  };
  const network = { cniVersion: "0.4.0", name: "test", plugins: [ptp] };
  writeFileSync(`${directory}/cni/10-test.conflist`, JSON.stringify(network));
  return [
    `[${CRI}]`,
    `  sandbox_image = ${JSON.stringify(pause)}`,
    '  stream_server_address = "127.0.0.1"',
    '  stream_server_port = "0"',
    "  restrict_oom_score_adj = true",
    "  stats_collect_period = 1",
    `[${CRI}.containerd]`,
    '  snapshotter = "nydus"',
    "  disable_snapshot_annotations = false",
    `[${CRI}.cni]`,
    '  bin_dir = "/usr/lib/cni"',
    `  conf_dir = ${JSON.stringify(`${directory}/cni`)}`,
    "",
  ].join("\n");
}

export interface Kubelet extends AsyncDisposable {
  readonly images: Client<typeof ImageService>;
  readonly runtime: Client<typeof RuntimeService>;
  pull(image: string, auth?: MessageInitShape<typeof AuthConfigSchema>): Promise<string>;
  runPod(name: string): Promise<string>;
  /** Create a container in a pod and start it. */
  start(pod: string, name: string, image: string, command?: readonly string[]): Promise<string>;
  /** Standard output; a failing command throws. */
  exec(container: string, ...command: string[]): Promise<string>;
  /** Exit code, once it ended. */
  exitOf(container: string): Promise<number>;
  removePod(pod: string): Promise<void>;
}

/** @param logs for what containers print: `LOGS/POD/NAME.log` */
export async function startKubelet(address: string, logs: string): Promise<Kubelet> {
  const client = new ContainerdClient({ address, namespace: "k8s.io" });
  const [images, runtime] = [client.service(ImageService), client.service(RuntimeService)];
  const podConfig = (name: string) => ({
    metadata: { name, uid: `${name}-uid`, namespace: "default", attempt: 0 },
    hostname: name,
    logDirectory: `${logs}/${name}`,
    linux: {},
  });
  const names = new Map<string, string>();
  const ready = async (): Promise<boolean> => {
    const { status } = await runtime.status({}).catch(() => ({ status: undefined }));
    return status?.conditions.every((condition) => condition.status) ?? false;
  };
  await waitFor("the CRI plugin and its network", ready);
  return {
    images,
    runtime,
    pull: async (image, auth) => {
      const request = auth === undefined ? { image: { image } } : { image: { image }, auth };
      return (await images.pullImage(request)).imageRef;
    },
    async runPod(name) {
      const { podSandboxId } = await runtime.runPodSandbox({ config: podConfig(name) });
      names.set(podSandboxId, name);
      return podSandboxId;
    },
    async start(pod, name, image, command = []) {
      const { containerId } = await runtime.createContainer({
        podSandboxId: pod,
        config: {
          metadata: { name },
          image: { image },
          command: [...command],
          logPath: `${name}.log`,
        },
        sandboxConfig: podConfig(names.get(pod) ?? ""),
      });
      await runtime.startContainer({ containerId });
      return containerId;
    },
    async exec(containerId, ...cmd) {
      const { stdout, stderr, exitCode } = await runtime.execSync({ containerId, cmd, timeout: 30n });
      if (exitCode !== 0) throw new Error(`Cannot run "${cmd.join(" ")}": ${Buffer.from(stderr)}`);
      return Buffer.from(stdout).toString();
    },
    async exitOf(containerId) {
      let code: number | undefined;
      await waitFor(`container ${containerId} to end`, async () => {
        const { status } = await runtime.containerStatus({ containerId });
        if (status?.state === ContainerState.CONTAINER_EXITED) code = status.exitCode;
        return code !== undefined;
      });
      return code ?? -1;
    },
    async removePod(podSandboxId) {
      await runtime.stopPodSandbox({ podSandboxId });
      await runtime.removePodSandbox({ podSandboxId });
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}
