/** Requests by Bun's fetch, with connections that are kept for the next request. @module */
import { isLoopback } from "./http.ts";
import type { ClientTls } from "./tls.ts";
import type { Wire, WireRequest } from "./wire.ts";

export interface FetchWireOptions {
  readonly tls: ClientTls | undefined;
  /** Without one, HTTP_PROXY, HTTPS_PROXY and NO_PROXY count. */
  readonly proxyUrl: string | undefined;
  /** "http2" fails with code HTTP2Unsupported where a host does not offer it. */
  readonly protocol: "http1.1" | "http2";
}

/** What Bun's fetch takes beyond the standard. */
interface FetchInit extends RequestInit {
  /** Blobs are stored as they are; a Content-Encoding must not change their bytes. */
  readonly decompress: false;
  readonly proxy?: string;
  readonly tls?: ClientTls;
  readonly protocol: FetchWireOptions["protocol"];
}

export function fetchWire(options: FetchWireOptions): Wire {
  return (request) => {
    if (isLoopback(request.url.hostname)) exemptLoopback();
    return fetch(request.url, init(request, options));
  };
}

function init(
  { method, headers, body, signal }: WireRequest,
  { tls, proxyUrl, protocol }: FetchWireOptions,
): FetchInit {
  return {
    protocol,
    method,
    headers,
    redirect: "manual",
    signal,
    decompress: false,
    ...(tls === undefined ? {} : { tls }),
    ...(proxyUrl === undefined ? {} : { proxy: proxyUrl }),
    ...(body === undefined
      ? {}
      : {
          body: body instanceof ReadableStream ? body : (body as Uint8Array<ArrayBuffer>),
          duplex: "half",
        }),
  };
}

/** Bun sends loopback requests through HTTP_PROXY too, where curl and Go do not; it reads NO_PROXY at each request. */
function exemptLoopback(): void {
  const { env } = process;
  if (env.HTTP_PROXY === undefined && env.http_proxy === undefined) return;
  const listed = env.NO_PROXY ?? env.no_proxy ?? "";
  if (listed.includes("127.0.0.1")) return;
  env.NO_PROXY = [listed, "localhost", "127.0.0.1", "::1"].filter((host) => host !== "").join(",");
}
