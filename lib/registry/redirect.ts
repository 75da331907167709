/**
 * Redirects followed by hand: the registry's token must not reach another host, and where a blob was redirected to is
 * remembered, so that a mount's many small reads do not pay the detour each time.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import type { HttpRequest, HttpResponse, Send } from "./http.ts";

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_HOPS = 5;
/** Blobs whose target is remembered; an image has some dozens. */
const MAX_REMEMBERED = 256;

/**
 * Wraps a `Send` that adds credentials for the registry's own host only. Only reads are redirected: an upload names
 * its own places.
 */
export function withRedirects(send: Send): Send {
  const targets = new Map<string, URL>();
  return async (request) => {
    if (request.method !== "GET" && request.method !== "HEAD") return send(request);
    const key = keyOf(request);
    const known = targets.get(key);
    if (known !== undefined) {
      const response = await sendTo(known, request, targets, key);
      if (response !== undefined) return response;
    }
    return follow(request, targets);
  };

  /** Undefined when the remembered place no longer serves: signed URLs expire. */
  async function sendTo(
    url: URL,
    request: HttpRequest,
    all: Map<string, URL>,
    key: string,
  ): Promise<HttpResponse | undefined> {
    try {
      const response = await send({ ...request, url });
      if (response.status < 300 || response.status === 416) return response;
      all.delete(key);
      // Its own trouble: the caller waits before the next attempt, which asks the registry again.
      if (response.status === 429 || response.status >= 500) return response;
      await response.discard();
      return undefined;
    } catch (error) {
      all.delete(key);
      throw error;
    }
  }

  async function follow(request: HttpRequest, all: Map<string, URL>): Promise<HttpResponse> {
    let url = request.url;
    for (let hops = 0; ; hops++) {
      const response = await send({ ...request, url });
      if (!REDIRECTS.has(response.status)) {
        if (hops > 0 && response.status < 300) remember(all, keyOf(request), url);
        return response;
      }
      const location = response.headers.get("location");
      await response.discard();
      if (hops === MAX_HOPS)
        throw new NydusError(
          "unavailable",
          `Cannot ${request.action}: it was redirected more than ${MAX_HOPS} times`,
        );
      url = nextUrl(url, location, request.action);
    }
  }
}

/** Signed addresses hold for one method only. */
function keyOf({ method, url }: HttpRequest): string {
  return `${method} ${url.pathname}`;
}

function nextUrl(from: URL, location: string | null, action: string): URL {
  if (location === null || !URL.canParse(location, from))
    throw new NydusError("internal", `Cannot ${action}: ${from.host} redirects to no address`);
  const url = new URL(location, from);
  const allowed = url.protocol === "https:" || (url.protocol === "http:" && from.protocol === "http:");
  if (allowed) return url;
  throw new NydusError("denied", `Cannot ${action}: ${from.host} redirects from https to ${url.protocol}//`);
}

function remember(targets: Map<string, URL>, key: string, url: URL): void {
  if (!key.includes("/blobs/")) return;
  const [oldest] = targets.keys();
  if (targets.size >= MAX_REMEMBERED && oldest !== undefined) targets.delete(oldest);
  targets.set(key, url);
}
