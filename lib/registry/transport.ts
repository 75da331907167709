/**
 * One request over the wire: raw bodies, time limits on silence, and errors with a meaning.
 *
 * @module
 */
import { NydusError, toNydusError } from "../base/error.ts";
import { fetchWire } from "./fetch-wire.ts";
import type { HttpRequest, HttpResponse, Send } from "./http.ts";
import type { Http2Hosts } from "./http2-hosts.ts";
import { withHttp2 } from "./http2-wire.ts";
import { networkError } from "./network-error.ts";
import { clientTls, type TlsOptions } from "./tls.ts";
import { Watchdog } from "./watchdog.ts";
import { TimedOut, type Wire, type WireAnswer, type WireRequest } from "./wire.ts";

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

export interface TransportOptions {
  /** Do not verify certificates. */
  readonly insecure?: boolean;
  readonly tls?: TlsOptions;
  /** Send everything through this HTTP proxy. Without one, HTTP_PROXY, HTTPS_PROXY and NO_PROXY count. */
  readonly proxyUrl?: string;
  /** Reads from hosts that offer HTTP/2 use it. Without this, and through proxies: HTTP/1.1. */
  readonly http2?: Http2Hosts;
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

export function createTransport(options: TransportOptions = {}): Send {
  const { http2, proxyUrl } = options;
  const tls = clientTls(options);
  const plain = fetchWire({ tls, proxyUrl, protocol: "http1.1" });
  const wire = http2 === undefined || proxyUrl !== undefined ? plain : withHttp2(plain, http2, tls);
  return async (request) => new Exchange(request, options, wire).run();
}

class Exchange {
  readonly #request: HttpRequest;
  readonly #options: TransportOptions;
  readonly #wire: Wire;
  /** Aborting is the only way to make Bun close the connection: cancelling the body leaves it open. */
  readonly #controller = new AbortController();
  readonly #dog: Watchdog;
  readonly #onAbort: () => void;
  #limit: number;
  #timedOut = false;

  constructor(request: HttpRequest, options: TransportOptions, wire: Wire) {
    this.#request = request;
    this.#options = options;
    this.#wire = wire;
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
      this.#controller.abort(new TimedOut());
    });
  }

  async run(): Promise<HttpResponse> {
    this.#announce();
    let response: WireAnswer;
    try {
      response = await this.#wire(this.#wireRequest());
    } catch (error) {
      this.#end();
      throw this.#explain(error, "no answer");
    }
    this.#dog.stop();
    const { status, headers } = response;
    const body = response.body === null ? this.#noBody() : this.#watched(response.body, response);
    return { status, headers, body, discard: () => this.#discard(body, headers) };
  }

  #announce(): void {
    const { method, url, headers } = this.#request;
    const range = headers?.range;
    this.#options.observer?.request?.({
      method,
      host: url.host,
      path: url.pathname,
      ...(range === undefined ? {} : { range }),
    });
  }

  #wireRequest(): WireRequest {
    const { method, url, headers, body, apart = false } = this.#request;
    return {
      method,
      url,
      headers: {
        "accept-encoding": "identity",
        "user-agent": this.#options.userAgent ?? "nydus-tool",
        ...headers,
      },
      apart,
      signal: this.#controller.signal,
      ...(body === undefined ? {} : { body: body instanceof ReadableStream ? this.#sent(body) : body }),
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

  #watched(body: ReadableStream<Uint8Array>, answer: WireAnswer): ReadableStream<Uint8Array> {
    const reader = body.getReader();
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const dog = this.#watch(this.#options.idleTimeout ?? IDLE_TIMEOUT);
          try {
            const { done, value } = await reader.read();
            if (done) {
              answer.ended?.(true);
              this.#end();
              controller.close();
              return;
            }
            this.#options.observer?.bytes?.(value.byteLength);
            controller.enqueue(value);
          } catch (error) {
            if (!this.#controller.signal.aborted) answer.ended?.(false);
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

/** From AbortSignal.timeout(). */
function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === "TimeoutError";
}
