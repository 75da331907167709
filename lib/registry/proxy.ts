/**
 * An HTTP proxy for blobs, as peer-to-peer systems put one on every node (Dragonfly's client, for example): it is asked
 * before the registry, watched by a health check, and passed over while it is ill.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import { READ, type Send } from "./http.ts";

export interface ProxyOptions {
  /** "http://127.0.0.1:4001", without a password: it would be kept with the mount. */
  readonly url: string;
  /** Answers 2xx while the proxy is well. */
  readonly ping?: string;
  /**
   * Ask for http:// addresses: of an https request a proxy sees nothing but the host, so that it has nothing to share.
   * The proxy then speaks https itself. Registry tokens travel to the proxy unencrypted.
   */
  readonly asHttp?: boolean;
  /** Sent with each request for a blob, beside Dragonfly's own. Not for secrets, which would be kept too. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Dragonfly's client shares what is marked so; 6 is its priority for somebody who waits. Others ignore both. */
const DRAGONFLY: Readonly<Record<string, string>> = {
  "x-dragonfly-use-p2p": "true",
  "x-dragonfly-priority": "6",
};

export function proxyHeaders({ headers = {} }: ProxyOptions): Readonly<Record<string, string>> {
  const own = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]);
  return { ...DRAGONFLY, ...Object.fromEntries(own) };
}

/** @throws usage, without what may be a password */
export function checkProxy({ url, ping }: ProxyOptions): URL {
  for (const text of ping === undefined ? [url] : [url, ping])
    if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
      throw new NydusError("usage", "Cannot use the proxy: its address is not a URL with http or https");
  const parsed = new URL(url);
  if (parsed.username === "" && parsed.password === "") return parsed;
  throw new NydusError("usage", "Cannot use the proxy: its address must not hold a name or password");
}

/** Milliseconds between two looks at a proxy that is in use. */
const PING_INTERVAL = 5000;
const PING_TIMEOUT = 3000;

/** What the last ping said. Looks again in the background when somebody asks and the answer is old. */
export class ProxyHealth {
  readonly #ping: URL;
  readonly #send: Send;
  readonly #now: () => number;
  #up = true;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(ping: string, send: Send, now: () => number = () => performance.now()) {
    this.#ping = new URL(ping);
    this.#send = send;
    this.#now = now;
  }

  get isUp(): boolean {
    if (this.#now() - this.#askedAt >= PING_INTERVAL) {
      this.#askedAt = this.#now();
      void this.#look();
    }
    return this.#up;
  }

  async #look(): Promise<void> {
    try {
      const response = await this.#send({
        method: "GET",
        url: this.#ping,
        action: "ask the proxy for its health",
        access: READ,
        signal: AbortSignal.timeout(PING_TIMEOUT),
      });
      this.#up = response.status >= 200 && response.status < 300;
      await response.discard();
    } catch {
      this.#up = false;
    }
  }
}
