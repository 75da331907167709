/**
 * One HTTP exchange as a function, so that authentication, redirects, retries and limits are wrappers of it
 * (`Send => Send`).
 *
 * @module
 */

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream can be sent once only: such a request is never repeated. */
  readonly body?: Uint8Array | ReadableStream<Uint8Array>;
  /** Completes "Cannot ..." in errors: `read "host/name@sha256:..."`. */
  readonly action: string;
  readonly access: Access;
  /** Asked beside a request that hangs: not on the same connection. */
  readonly apart?: boolean;
  readonly signal?: AbortSignal;
}

/** What a token must allow: the repository itself, and reading others that blobs are mounted from. */
export interface Access {
  readonly write: boolean;
  readonly alsoRead?: string;
}

export const READ: Access = { write: false };
export const WRITE: Access = { write: true };

export interface HttpResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array>;
  /** Gives up the rest of the body. Every response must be read to its end or discarded. */
  discard(): Promise<void>;
}

export type Send = (request: HttpRequest) => Promise<HttpResponse>;

/** Whether sending the request once more is possible at all. */
export function isRepeatable(request: HttpRequest): boolean {
  return !(request.body instanceof ReadableStream);
}

const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\]|\[::ffff:127(?:\.\d{1,3}){3}\])$/i;

/** @param host a host name or address, with or without a port */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host.replace(/:\d+$/, ""));
}

/** Whether a URL points at `host`, which may spell out the default port. */
export function isAt(url: URL, host: string): boolean {
  const spelt = `${url.protocol}//${host}`;
  return URL.canParse(spelt) && new URL(spelt).host === url.host;
}
