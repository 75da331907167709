/**
 * How registries are reached, as a person or a request says it: plain data, so that it can travel between processes.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { checkProxy, type ProxyOptions } from "./proxy.ts";

export interface RegistryAccess {
  /** http only. */
  readonly plainHttp?: boolean;
  /** Accept any certificate, and http where there is no TLS at all. */
  readonly insecure?: boolean;
  /** containerd's directory of host configurations. */
  readonly hostsDirectory?: string;
  /** For blobs; the registry itself is asked when it fails. */
  readonly proxy?: ProxyOptions;
  /** Seconds of nothing from the registry after which a read fails. */
  readonly readTimeout?: number;
  /** Of images that containerd has: how it is reached. */
  readonly containerd?: { readonly address: string; readonly namespace: string };
}

/** Seconds. The kernel begins to complain about readers that wait after 120. */
export const DEFAULT_READ_TIMEOUT = 60;

type Table = Readonly<Record<string, unknown>>;

/** Checks what came from another process. @throws usage */
export function parseAccess(value: Table): RegistryAccess {
  const { hostsDirectory, proxy, readTimeout, containerd } = value;
  const seconds = typeof readTimeout === "number" && readTimeout > 0 ? { readTimeout } : {};
  return {
    plainHttp: value.plainHttp === true,
    insecure: value.insecure === true,
    ...(typeof hostsDirectory === "string" ? { hostsDirectory } : {}),
    ...(isTable(containerd) ? { containerd: parseContainerd(containerd) } : {}),
    ...(isTable(proxy) ? { proxy: parseProxy(proxy) } : {}),
    ...seconds,
  };
}

function parseContainerd({ address, namespace }: Table): { address: string; namespace: string } {
  if (typeof address === "string" && typeof namespace === "string") return { address, namespace };
  throw new NydusError("usage", "Cannot use containerd: the request has no address or no namespace");
}

function parseProxy({ url, ping, asHttp, headers }: Table): ProxyOptions {
  if (typeof url !== "string") throw new NydusError("usage", "Cannot use the proxy: it has no address");
  const named = Object.entries(isTable(headers) ? headers : {});
  const proxy: ProxyOptions = {
    url,
    asHttp: asHttp === true,
    headers: Object.fromEntries(
      named.filter((entry): entry is [string, string] => typeof entry[1] === "string"),
    ),
    ...(typeof ping === "string" ? { ping } : {}),
  };
  checkProxy(proxy);
  return proxy;
}

function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
