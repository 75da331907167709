/**
 * The credentials of `snapshotter serve`: flags that say where they come from, the chain that they make, and the sockets
 * at which they arrive and are asked for.
 *
 * @module
 */
import { resolve } from "node:path";
import { NydusError } from "../lib/base/error.ts";
import type { Logger } from "../lib/base/log.ts";
import { DEFAULT_ADDRESS } from "../lib/containerd/client.ts";
import type { Fallback } from "../lib/containerd/grpc/server.ts";
import { credentialChain } from "../lib/credentials/chain.ts";
import { imageService } from "../lib/credentials/image-service.ts";
import { KubeClient } from "../lib/credentials/kube-client.ts";
import {
  DEFAULT_KUBECONFIG,
  IN_CLUSTER,
  kubeconfigPath,
  readKubeconfig,
} from "../lib/credentials/kubeconfig.ts";
import { readProviderConfig } from "../lib/credentials/kubelet-config.ts";
import { kubeletProviders } from "../lib/credentials/kubelet-providers.ts";
import { KubernetesSecrets } from "../lib/credentials/kubernetes-secrets.ts";
import { PullSecrets } from "../lib/credentials/pull-secrets.ts";
import { credentialSocket, serveCredentials } from "../lib/credentials/server.ts";
import { type CredentialSource, dockerCredentials } from "../lib/registry/credentials.ts";
import type { Arguments, Flag } from "./command.ts";

export const CREDENTIAL_FLAGS = {
  "image-service-address": {
    type: "string",
    value: "SOCKET",
    help: "where calls of a kubelet's --image-service-endpoint go on to (containerd's socket)",
  },
  "credential-provider-config": {
    type: "string",
    value: "FILE",
    help: "the kubelet's credential providers, as its --image-credential-provider-config",
  },
  "credential-provider-bin-dir": {
    type: "string",
    value: "DIR",
    help: "where their programs are, as its --image-credential-provider-bin-dir",
  },
  kubeconfig: {
    type: "string",
    value: "FILE",
    help: `use the cluster's pull secrets; "${DEFAULT_KUBECONFIG}" for kubectl's, "${IN_CLUSTER}" for the pod's account`,
  },
} as const satisfies Record<string, Flag>;

export interface KeptCredentials extends AsyncDisposable {
  /** All of them, for what this process fetches itself. */
  readonly source: CredentialSource;
  /** What came with pulls. */
  readonly pulls: PullSecrets;
  /** For the snapshotter's socket: Kubernetes' image service. */
  readonly imageService: Fallback;
}

/** Serves them to the mount process of a run directory. */
export async function keepCredentials(
  args: Arguments,
  runDirectory: string,
  log: Logger,
): Promise<KeptCredentials> {
  const pulls = new PullSecrets({ heir: true });
  const providers = await credentialProviders(args, log);
  const kubernetes = kubernetesSecrets(args, log);
  // What came with a pull first, then what is configured on the node, then the cluster's secrets.
  const source = credentialChain(
    [
      { name: "credentials of pulls", source: pulls.source },
      { name: "docker's configuration", source: dockerCredentials() },
      ...(providers === undefined ? [] : [{ name: "the kubelet's credential providers", source: providers }]),
      ...(kubernetes === undefined ? [] : [{ name: "Kubernetes' secrets", source: kubernetes.source }]),
    ],
    log,
  );
  const images = imageService({ address: imageServiceAddress(args), secrets: pulls, log });
  const server = serveCredentials(credentialSocket(runDirectory), source);
  return {
    source,
    pulls,
    imageService: images.fallback,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      images[Symbol.dispose]();
      kubernetes?.[Symbol.dispose]();
    },
  };
}

/** containerd serves Kubernetes' image service on its own socket. */
function imageServiceAddress(args: Arguments): string {
  const address =
    args.string("image-service-address") ?? args.string("containerd-address") ?? DEFAULT_ADDRESS;
  return resolve(address.replace(/^unix:\/\//, ""));
}

async function credentialProviders(args: Arguments, log: Logger): Promise<CredentialSource | undefined> {
  const config = args.string("credential-provider-config");
  const binDirectory = args.string("credential-provider-bin-dir");
  if ((config === undefined) !== (binDirectory === undefined))
    throw new NydusError(
      "usage",
      "Cannot use credential providers: give both --credential-provider-config and --credential-provider-bin-dir",
    );
  if (config === undefined || binDirectory === undefined) return undefined;
  const providers = await readProviderConfig(resolve(config));
  return kubeletProviders({ providers, binDirectory: resolve(binDirectory), log });
}

function kubernetesSecrets(args: Arguments, log: Logger): KubernetesSecrets | undefined {
  const given = args.string("kubeconfig");
  if (given === undefined) return undefined;
  const path = kubeconfigPath(given);
  // A file that is wrong now stops the start; later on it is only a warning.
  readKubeconfig(path);
  return new KubernetesSecrets(new KubeClient(() => readKubeconfig(path)), log);
}
