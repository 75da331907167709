/**
 * https or http: https, unless the registry is on this machine or a flag says otherwise. Where both are possible the
 * first answer decides, for good.
 *
 * @module
 */
import { isCode } from "../base/error.ts";
import { readAll, streamOf } from "../content/verified.ts";
import { type HttpRequest, type HttpResponse, isLoopback, isRepeatable, type Send } from "./http.ts";

export interface SchemeOptions {
  readonly plainHttp?: boolean;
  /** Accept any certificate, and http where there is no TLS at all. */
  readonly insecure?: boolean;
}

export type Scheme = "http:" | "https:";

/** Schemes to try, in order. */
export function schemesFor(host: string, options: SchemeOptions): readonly [Scheme, ...Scheme[]] {
  if (options.plainHttp === true) return ["http:"];
  if (isLoopback(host)) return host.endsWith(":443") ? ["https:"] : ["http:", "https:"];
  return options.insecure === true ? ["https:", "http:"] : ["https:"];
}

/** Requests get the scheme that works for the registry at `host`, whatever scheme their URL has. */
export function withScheme(send: Send, host: string, options: SchemeOptions): Send {
  let schemes = schemesFor(host, options);
  return async (request) => {
    const [first, second] = schemes;
    if (second === undefined || !isRepeatable(request)) return send(on(first, request));
    try {
      const response = await wantsTls(await send(on(first, request)));
      if (response !== undefined) {
        schemes = [first];
        return response;
      }
    } catch (error) {
      if (!isCode(error, "unavailable") || !/TLS|broke off|refused the connection/.test(error.message))
        throw error;
      const response = await send(on(second, request)).catch(() => undefined);
      if (response === undefined) throw error;
      schemes = [second];
      return response;
    }
    schemes = [second];
    return send(on(second, request));
  };
}

function on(scheme: Scheme, request: HttpRequest): HttpRequest {
  const url = new URL(request.url);
  url.protocol = scheme;
  return { ...request, url };
}

/** Undefined when the answer says that this port speaks TLS (Go's and nginx's words for it). */
async function wantsTls(response: HttpResponse): Promise<HttpResponse | undefined> {
  if (response.status !== 400) return response;
  const bytes = await readAll(response.body, 64 * 1024, "an error").catch(() => new Uint8Array());
  if (/HTTPS (?:server|port)/i.test(new TextDecoder().decode(bytes))) return undefined;
  return { ...response, body: streamOf(bytes), discard: async () => {} };
}
