/**
 * Which hosts speak HTTP/2 well. Connections are Bun's; whoever opens registries owns what is known of their hosts.
 *
 * Nobody waits longer than without HTTP/2: the first request to a host goes by HTTP/1.1 at once. The second makes us ask
 * what the host speaks; meanwhile one request at a time goes by HTTP/1.1, and those that would need another connection
 * wait for the answer.
 *
 * @module
 */
import { digestOf } from "../base/digest.ts";
import { fetchWire } from "./fetch-wire.ts";
import type { ClientTls } from "./tls.ts";

/** Milliseconds until a host that offers no HTTP/2 is asked again. */
const HTTP1_MEMORY = 600_000;
/** The same after trouble. Asking then tells whether the connection is still stuck, and no reader waits for it. */
const TROUBLE_MEMORY = 30_000;
/** So many answers that break off in a row are HTTP/2's fault, perhaps. */
const MOST_BROKEN = 3;
/** Milliseconds that asking may take. */
const ASK_LIMIT = 10_000;
/** A redirect can name any host; those that were not asked for longest are forgotten first. */
const MOST_HOSTS = 64;

const HEADERS = { "user-agent": "nydus-tool" } as const;

export class Http2Hosts {
  readonly #hosts = new Map<string, Http2Host>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @returns what finds the host of a URL; undefined: it cannot speak HTTP/2 */
  withTls(tls: ClientTls | undefined): (url: URL) => Http2Host | undefined {
    const name = tls === undefined ? "" : digestOf(Buffer.from(JSON.stringify(tls)));
    return (url) => (url.protocol === "https:" ? this.#host(url, tls, `${url.host} ${name}`) : undefined);
  }

  #host(url: URL, tls: ClientTls | undefined, key: string): Http2Host {
    const host = this.#hosts.get(key) ?? new Http2Host(url, tls, this.#now);
    this.#hosts.delete(key);
    this.#hosts.set(key, host);
    const [oldest] = this.#hosts.keys();
    if (this.#hosts.size > MOST_HOSTS && oldest !== undefined) this.#hosts.delete(oldest);
    return host;
  }
}

/** One host, asked with certain certificates. */
export class Http2Host {
  readonly #url: URL;
  readonly #tls: ClientTls | undefined;
  readonly #now: () => number;
  #speaksHttp2 = false;
  #asking: Promise<boolean> | undefined;
  #requests = 0;
  /** Requests by HTTP/1.1 that were not answered yet. */
  #plain = 0;
  /** HTTP/1.1 until then. */
  #http1Until = 0;
  /** Answers in a row that broke off. */
  #broken = 0;

  constructor(url: URL, tls: ClientTls | undefined, now: () => number) {
    this.#url = new URL("/", url);
    this.#tls = tls;
    this.#now = now;
  }

  /** Whether to send the next request by HTTP/2; a promise where it is worth waiting. */
  wantsHttp2(): boolean | Promise<boolean> {
    if (this.#now() < this.#http1Until) return false;
    if (this.#speaksHttp2) return true;
    if (this.#requests++ === 0) return false;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#plain === 0 ? false : this.#asking;
  }

  async byHttp1<T>(send: () => Promise<T>): Promise<T> {
    this.#plain++;
    try {
      return await send();
    } finally {
      this.#plain--;
    }
  }

  /** A request hangs or failed: perhaps with the connection, which others would use too. */
  trouble(): void {
    if (this.#speaksHttp2) this.#avoid(TROUBLE_MEMORY);
  }

  /** An answer by HTTP/2 came to its end, or did not. */
  ended(whole: boolean): void {
    this.#broken = whole ? 0 : this.#broken + 1;
    if (this.#broken >= MOST_BROKEN) this.trouble();
  }

  #avoid(milliseconds: number): void {
    this.#speaksHttp2 = false;
    this.#broken = 0;
    this.#http1Until = this.#now() + milliseconds;
  }

  /** Any answer will do. The connection stays for what follows. */
  async #ask(): Promise<boolean> {
    const send = fetchWire({ tls: this.#tls, proxyUrl: undefined, protocol: "http2" });
    try {
      const signal = AbortSignal.timeout(ASK_LIMIT);
      const answer = await send({ method: "HEAD", url: this.#url, headers: HEADERS, apart: false, signal });
      await answer.body?.cancel();
      this.#speaksHttp2 = true;
    } catch (error) {
      // What else is wrong, HTTP/1.1 will tell.
      const unsupported = error instanceof Error && "code" in error && error.code === "HTTP2Unsupported";
      this.#avoid(unsupported ? HTTP1_MEMORY : TROUBLE_MEMORY);
    }
    return this.#speaksHttp2;
  }
}
