/** Reads by HTTP/2 where the host offers it, everything else as without it. @module */
import { fetchWire } from "./fetch-wire.ts";
import type { Http2Host, Http2Hosts } from "./http2-hosts.ts";
import type { ClientTls } from "./tls.ts";
import { TimedOut, type Wire, type WireAnswer, type WireRequest } from "./wire.ts";

export function withHttp2(plain: Wire, hosts: Http2Hosts, tls: ClientTls | undefined): Wire {
  const hostOf = hosts.withTls(tls);
  const http2 = fetchWire({ tls, proxyUrl: undefined, protocol: "http2" });
  return async (request) => {
    const host = suits(request) ? hostOf(request.url) : undefined;
    if (host === undefined) return plain(request);
    // Beside a request that hangs, perhaps with its connection.
    if (request.apart) host.trouble();
    const wanted = !request.apart && host.wantsHttp2();
    if (wanted instanceof Promise ? await abortable(wanted, request.signal) : wanted) {
      const answer = await byHttp2(http2, host, request);
      if (answer !== undefined) return answer;
    }
    return host.byHttp1(() => plain(request));
  };
}

/** Undefined when it failed before the answer began: reads can be sent again, and HTTP/1.1 will tell what is wrong. */
async function byHttp2(http2: Wire, host: Http2Host, request: WireRequest): Promise<WireAnswer | undefined> {
  const { signal } = request;
  signal.addEventListener("abort", () => signal.reason instanceof TimedOut && host.trouble(), { once: true });
  try {
    const { status, headers, body } = await http2(request);
    return { status, headers, body, ended: (whole) => host.ended(whole) };
  } catch (error) {
    if (signal.aborted) throw error;
    host.ended(false);
    return undefined;
  }
}

/** Headers that HTTP/2 has no place for; somebody may have configured one. */
const OF_HTTP1 = [
  "connection",
  "host",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
];

function suits({ method, body, headers }: WireRequest): boolean {
  // HTTP/1.1 knows how to go through the proxies of the environment.
  const { HTTPS_PROXY = "", https_proxy = "" } = process.env;
  if (body !== undefined || HTTPS_PROXY + https_proxy !== "") return false;
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  return (method === "GET" || method === "HEAD") && !names.some((name) => OF_HTTP1.includes(name));
}

/** @throws what the signal is aborted with */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
