/**
 * Flags of verbs that talk to registries.
 *
 * @module
 */
import { resolve } from "node:path";
import { NydusError } from "../lib/base/error.ts";
import { type ContainerdOptions, DEFAULT_ADDRESS, DEFAULT_NAMESPACE } from "../lib/containerd/client.ts";
import type { PrefetchPolicy } from "../lib/mount/mount-request.ts";
import { DEFAULT_READ_TIMEOUT, type RegistryAccess } from "../lib/registry/access.ts";
import { DEFAULT_HOSTS_DIRECTORY } from "../lib/registry/hosts-file.ts";
import { checkProxy, type ProxyOptions } from "../lib/registry/proxy.ts";
import type { Arguments, Flag } from "./command.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_SNAPSHOTTER = "nydus";

export const REGISTRY_FLAGS = {
  "plain-http": { type: "boolean", help: "talk http to registries (loopback needs no flag)" },
  insecure: { type: "boolean", help: "do not check registries' certificates" },
  "hosts-dir": {
    type: "string",
    value: "DIR",
    help: `mirrors and certificates, as containerd has them (${DEFAULT_HOSTS_DIRECTORY})`,
  },
  "read-timeout": {
    type: "string",
    value: "SECONDS",
    help: `fail when a registry or another source gives nothing for so long (${DEFAULT_READ_TIMEOUT})`,
  },
} as const satisfies Record<string, Flag>;

/** Of verbs that take images of containerd. */
export const CONTAINERD_FLAGS = {
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
} as const satisfies Record<string, Flag>;

/** Of verbs that unpack into containerd. */
export const SNAPSHOTTER_FLAG = {
  type: "string",
  value: "NAME",
  help: `as containerd's config.toml names it (CONTAINERD_SNAPSHOTTER, ${DEFAULT_SNAPSHOTTER})`,
} as const satisfies Flag;

export function snapshotterName(args: Arguments, env: Environment): string {
  return args.string("snapshotter") ?? env.CONTAINERD_SNAPSHOTTER ?? DEFAULT_SNAPSHOTTER;
}

export function containerdOptions(args: Arguments, env: Environment): ContainerdOptions {
  return {
    address: resolve(args.string("containerd-address") ?? env.CONTAINERD_ADDRESS ?? DEFAULT_ADDRESS),
    namespace: args.string("namespace") ?? env.CONTAINERD_NAMESPACE ?? DEFAULT_NAMESPACE,
  };
}

/** Of verbs that serve data as it is read. */
export const SOURCE_FLAGS = {
  ...REGISTRY_FLAGS,
  "prefetch-bandwidth": {
    type: "string",
    value: "SIZE",
    help: "fetch ahead at most so many bytes a second, such as 10M (no limit)",
  },
  "push-list": {
    type: "boolean",
    help: "keep what a first run reads beside the image in its registry, for other nodes",
  },
  proxy: {
    type: "string",
    value: "URL",
    help: "ask an HTTP proxy for data first, such as Dragonfly's client",
  },
  "proxy-ping": { type: "string", value: "URL", help: "answers 2xx while the proxy is well" },
  "proxy-http": { type: "boolean", help: "ask the proxy for http addresses, so that it sees what to share" },
  "proxy-header": {
    type: "string",
    value: "NAME:VALUE",
    multiple: true,
    help: "send it through the proxy; may be given again",
  },
} as const satisfies Record<string, Flag>;

export function registryAccess(args: Arguments): RegistryAccess {
  return {
    containerd: containerdOptions(args, process.env),
    plainHttp: args.boolean("plain-http"),
    insecure: args.boolean("insecure"),
    hostsDirectory: resolve(args.string("hosts-dir") ?? DEFAULT_HOSTS_DIRECTORY),
    readTimeout: seconds(args.string("read-timeout")),
  };
}

export function sourceAccess(args: Arguments): RegistryAccess {
  const proxy = proxyOptions(args);
  return { ...registryAccess(args), ...(proxy === undefined ? {} : { proxy }) };
}

export function prefetchPolicy(args: Arguments): PrefetchPolicy {
  const bandwidth = args.size("prefetch-bandwidth");
  return { pushList: args.boolean("push-list"), ...(bandwidth === undefined ? {} : { bandwidth }) };
}

function seconds(text: string | undefined): number {
  if (text === undefined) return DEFAULT_READ_TIMEOUT;
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new NydusError(
    "usage",
    `Cannot use --read-timeout "${text}": it is not a positive number of seconds`,
  );
}

function proxyOptions(args: Arguments): ProxyOptions | undefined {
  const [url, ping] = [args.string("proxy"), args.string("proxy-ping")];
  if (url === undefined) return undefined;
  const headers = Object.fromEntries(args.strings("proxy-header").map(parseHeader));
  const proxy = {
    url,
    asHttp: args.boolean("proxy-http"),
    headers,
    ...(ping === undefined ? {} : { ping }),
  };
  checkProxy(proxy);
  return proxy;
}

function parseHeader(text: string): [name: string, value: string] {
  const match = /^([\w-]+):\s*([\x20-\x7e]*)$/.exec(text);
  if (match !== null) return [match[1] ?? "", match[2] ?? ""];
  throw new NydusError("usage", "Cannot use --proxy-header: it is not NAME:VALUE");
}
