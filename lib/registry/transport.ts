/**
 * The wire: one request with `fetch`, raw bodies, time limits on silence, and errors with a meaning.
 *
 * @module
 */
import { rootCertificates } from "node:tls";
import { NydusError, toNydusError } from "../base/error.ts";
import type { HttpRequest, HttpResponse, Send } from "./http.ts";
import { isLoopback } from "./http.ts";
import { Watchdog } from "./watchdog.ts";

/** Sees what goes over the wire: for metrics and tests. */
export interface Observer {
  request?(info: RequestInfo): void;
  /** Bytes of a response body that arrived. */
  bytes?(count: number): void;
}

export interface RequestInfo {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly range?: string;
}

export interface TlsOptions {
  /** Do not verify certificates; undefined = as `insecure` says. */
  readonly skipVerify?: boolean;
  /** Certificates to trust besides the usual ones (PEM). */
  readonly ca?: readonly string[];
  /** Who we are (PEM). */
  readonly certificate?: { readonly cert: string; readonly key: string };
}

export interface TransportOptions {
  /** Do not verify certificates. */
  readonly insecure?: boolean;
  readonly tls?: TlsOptions;
  /** Send everything through this HTTP proxy. Without one, HTTP_PROXY, HTTPS_PROXY and NO_PROXY count. */
  readonly proxyUrl?: string;
  /** Milliseconds from asking to the answer's head, when something is read. */
  readonly answerTimeout?: number;
  /** The same from the last byte sent, when something is written: a registry hashes and copies before it answers. */
  readonly writeTimeout?: number;
  /** Milliseconds between two pieces of a body. */
  readonly idleTimeout?: number;
  readonly observer?: Observer;
  readonly userAgent?: string;
}

export const ANSWER_TIMEOUT = 10_000;
const WRITE_TIMEOUT = 120_000;
const IDLE_TIMEOUT = 15_000;
/** Reading so much to the end costs less than another connection. */
const DRAIN_LIMIT = 16 * 1024;

/** What Bun's fetch takes beyond the standard. */
interface FetchInit extends RequestInit {
  /** Blobs are stored as they are; a Content-Encoding must not change their bytes. */
  readonly decompress: false;
  readonly proxy?: string;
  readonly tls?: {
    readonly rejectUnauthorized?: boolean;
    readonly ca?: string[];
    readonly cert?: string;
    readonly key?: string;
  };
}

export function createTransport(options: TransportOptions = {}): Send {
  return async (request) => new Exchange(request, options).run();
}

class Exchange {
  readonly #request: HttpRequest;
  readonly #options: TransportOptions;
  /** Aborting is the only way to make Bun close the connection: cancelling the body leaves it open. */
  readonly #controller = new AbortController();
  readonly #dog: Watchdog;
  readonly #onAbort: () => void;
  #limit: number;
  #timedOut = false;

  constructor(request: HttpRequest, options: TransportOptions) {
    this.#request = request;
    this.#options = options;
    this.#limit =
      request.body === undefined
        ? (options.answerTimeout ?? ANSWER_TIMEOUT)
        : (options.writeTimeout ?? WRITE_TIMEOUT);
    request.signal?.throwIfAborted();
    this.#onAbort = () => this.#controller.abort(request.signal?.reason);
    request.signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#dog = this.#watch(this.#limit);
  }

  #watch(ms: number): Watchdog {
    this.#limit = ms;
    return new Watchdog(ms, () => {
      this.#timedOut = true;
      this.#controller.abort(new Error("timed out"));
    });
  }

  async run(): Promise<HttpResponse> {
    this.#announce();
    let response: Response;
    try {
      response = await fetch(this.#request.url, this.#init());
    } catch (error) {
      this.#end();
      throw this.#explain(error, "no answer");
    }
    this.#dog.stop();
    const { status, headers } = response;
    const body = response.body === null ? this.#noBody() : this.#watched(response.body);
    return { status, headers, body, discard: () => this.#discard(body, headers) };
  }

  #announce(): void {
    const { method, url, headers } = this.#request;
    const range = headers?.range;
    if (isLoopback(url.hostname)) exemptLoopback();
    this.#options.observer?.request?.({
      method,
      host: url.host,
      path: url.pathname,
      ...(range === undefined ? {} : { range }),
    });
  }

  #init(): FetchInit {
    const { method, headers, body } = this.#request;
    return {
      method,
      headers: {
        "accept-encoding": "identity",
        "user-agent": this.#options.userAgent ?? "nydus-tool",
        ...headers,
      },
      redirect: "manual",
      signal: this.#controller.signal,
      decompress: false,
      ...tlsInit(this.#options),
      ...(this.#options.proxyUrl === undefined ? {} : { proxy: this.#options.proxyUrl }),
      ...(body === undefined
        ? {}
        : {
            body: body instanceof ReadableStream ? this.#sent(body) : (body as Uint8Array<ArrayBuffer>),
            duplex: "half",
          }),
    };
  }

  /** The time limit for the answer starts anew with each piece sent. */
  #sent(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    const reader = body.getReader();
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          this.#dog.touch();
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: (reason) => reader.cancel(reason),
      },
      { highWaterMark: 0 },
    );
  }

  #watched(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    const reader = body.getReader();
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const dog = this.#watch(this.#options.idleTimeout ?? IDLE_TIMEOUT);
          try {
            const { done, value } = await reader.read();
            if (done) {
              this.#end();
              controller.close();
              return;
            }
            this.#options.observer?.bytes?.(value.byteLength);
            controller.enqueue(value);
          } catch (error) {
            this.#end();
            throw this.#explain(error, "the body stopped");
          } finally {
            dog.stop();
          }
        },
        cancel: () => this.#abandon(),
      },
      { highWaterMark: 0 },
    );
  }

  #noBody(): ReadableStream<Uint8Array> {
    this.#end();
    return new ReadableStream({ start: (controller) => controller.close() });
  }

  async #discard(body: ReadableStream<Uint8Array>, headers: Headers): Promise<void> {
    if (body.locked) return this.#abandon();
    const length = headers.get("content-length");
    if (length === null || Number(length) > DRAIN_LIMIT) return body.cancel().catch(() => {});
    try {
      for await (const _piece of body);
    } catch {
      // Nobody wants it any more.
    }
  }

  #abandon(): void {
    this.#controller.abort(new Error("no longer wanted"));
    this.#end();
  }

  #end(): void {
    this.#dog.stop();
    this.#request.signal?.removeEventListener("abort", this.#onAbort);
  }

  #explain(error: unknown, silence: string): NydusError {
    const { action, signal, url } = this.#request;
    if (signal?.aborted === true && !isTimeout(signal.reason)) return toNydusError(signal.reason, action);
    const { proxyUrl } = this.#options;
    const peer = proxyUrl === undefined ? url.host : `proxy ${new URL(proxyUrl).host}`;
    if (signal?.aborted === true)
      return new NydusError("unavailable", `Cannot ${action}: ${peer} took too long`);
    if (this.#timedOut)
      return new NydusError(
        "unavailable",
        `Cannot ${action}: ${silence} from ${peer} for ${this.#limit / 1000} s`,
      );
    return networkError(error, action, peer);
  }
}

function tlsInit({ insecure = false, tls = {} }: TransportOptions): Pick<FetchInit, "tls"> {
  const { skipVerify = insecure, ca, certificate } = tls;
  if (!skipVerify && ca === undefined && certificate === undefined) return {};
  return {
    tls: {
      ...(skipVerify ? { rejectUnauthorized: false } : {}),
      // A list replaces the usual ones, which token services and object stores may still need.
      ...(ca === undefined ? {} : { ca: [...rootCertificates, ...ca] }),
      ...certificate,
    },
  };
}

/** From AbortSignal.timeout(). */
function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === "TimeoutError";
}

/** Reasons in words, for the codes of Bun's fetch; the other network errors keep their own. */
const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "refused the connection",
  ECONNRESET: "broke off the connection",
  ENOTFOUND: "is not a known host",
  EPROTO: "does not speak TLS",
  ETIMEDOUT: "did not answer",
  EHOSTUNREACH: "cannot be reached",
  ENETUNREACH: "cannot be reached",
};
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ISSUER/;

function networkError(cause: unknown, action: string, host: string): NydusError {
  if (cause instanceof NydusError) return cause;
  const code =
    typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
      ? cause.code
      : "";
  if (CERTIFICATE.test(code)) {
    const state = `the certificate of ${host} is not trusted (${code}); --insecure accepts it`;
    return new NydusError("denied", `Cannot ${action}: ${state}`, { cause });
  }
  const reason = REASONS[code] ?? `cannot be reached${code === "" ? "" : ` (${code})`}`;
  return new NydusError("unavailable", `Cannot ${action}: ${host} ${reason}`, { cause });
}

/** Bun sends loopback requests through HTTP_PROXY too, where curl and Go do not; it reads NO_PROXY at each request. */
function exemptLoopback(): void {
  const { env } = process;
  if (env.HTTP_PROXY === undefined && env.http_proxy === undefined) return;
  const listed = env.NO_PROXY ?? env.no_proxy ?? "";
  if (listed.includes("127.0.0.1")) return;
  env.NO_PROXY = [listed, "localhost", "127.0.0.1", "::1"].filter((host) => host !== "").join(",");
}
