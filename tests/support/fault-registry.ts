/**
 * A registry that misbehaves on demand: the embedded registry's answers, spoilt on their way out. Every request is
 * noted, and `fault` decides about each read of a blob.
 *
 *     await using registry = await startFaultRegistry({ root });
 *     registry.fault = ({ attempt }) => (attempt === 1 ? { kind: "reset", after: 1000 } : undefined);
 *     ... `${registry.host}/name:tag` ...
 *     expect(registry.requests).toHaveLength(2);
 *
 * @module
 */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { onTestFinished } from "vitest";
import { descriptorOf } from "../../lib/content/contract.test-support.ts";
import { OciLayout } from "../../lib/content/oci-layout.ts";
import { streamOf } from "../../lib/content/verified.ts";
import { createRegistryApp } from "../../lib/registry/server.ts";

export type Fault =
  /** This status with a registry's error body; 401 asks for Basic credentials. `retryAfter` is in seconds. */
  | { readonly kind: "status"; readonly status: number; readonly retryAfter?: number }
  /** No answer, or `after` bytes of the body and then nothing, until the client gives up. */
  | { readonly kind: "hang"; readonly after?: number }
  /** The body comes, but only `bytes` of it every 50 ms. */
  | { readonly kind: "trickle"; readonly bytes: number }
  /** The connection breaks, at once or after so many bytes of the body. */
  | { readonly kind: "reset"; readonly after?: number }
  /** An orderly answer that lacks the last `missing` bytes, and says so in Content-Length: a truncated blob. */
  | { readonly kind: "short"; readonly missing: number }
  /** The lowest bit of the body's byte `at` is turned over. */
  | { readonly kind: "flip"; readonly at: number }
  /** The whole blob with status 200, whatever range was asked for; its second half when `rest` resolves. */
  | { readonly kind: "ignore-range"; readonly rest?: Promise<void> }
  /**
   * To this URL; without one to the same blob at another address of this server, as registries on object stores do. The
   * address answers `uses` reads (all, when left out) and then 403, as signed addresses do when they expire.
   */
  | { readonly kind: "redirect"; readonly to?: string; readonly uses?: number };

export interface SeenRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** Of a blob read: its digest. */
  readonly digest: string | undefined;
  /** Of a blob read with a Range header: [start, end), with `end` exclusive. */
  readonly range: { readonly start: number; readonly end: number } | undefined;
  /** The count of reads of this blob and range so far, this one included: 1 is the first attempt. */
  readonly attempt: number;
  /** True when it came with credentials. */
  readonly authorized: boolean;
  /** With its question mark; "" without one. */
  readonly query: string;
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the body that were sent, so far. */
  sent: number;
  /** Whether the connection it came over has ended. */
  isGone(): boolean;
}

export interface FaultRegistry extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly host: string;
  /** "http://127.0.0.1:PORT" */
  readonly url: string;
  /** Asked at each GET of a blob; replace it at any time. */
  fault: (request: SeenRequest) => Fault | undefined | Promise<Fault | undefined>;
  /** When set, everything but the token service wants a bearer token, good for so many milliseconds. */
  tokenLifetime: number | undefined;
  /** When set, whom the token service gives tokens. */
  accepts: ((username: string, password: string) => boolean) | undefined;
  /** Tokens given out so far. */
  readonly tokens: number;
  /** No token so far is good any more. */
  revokeTokens(): void;
  readonly requests: readonly SeenRequest[];
  /** Only the GETs of blobs. */
  readonly reads: readonly SeenRequest[];
  /** Bytes of blobs that were sent. */
  readonly sent: number;
  /** Forget the requests so far. */
  clear(): void;
}

/** Holds one blob, in every repository, until the test ends. */
export async function serveBlobFaultily(bytes: Uint8Array): Promise<FaultRegistry> {
  const root = await mkdtemp(join(tmpdir(), "nt-blob-"));
  const layout = await OciLayout.open(root, { create: true });
  await layout.push(descriptorOf(bytes), streamOf(bytes));
  const registry = await startFaultRegistry({ root });
  onTestFinished(async () => {
    await registry[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });
  return registry;
}

type App = (request: Request) => Response | Promise<Response>;

const BLOB = /^\/v2\/.+\/blobs\/(sha256:[0-9a-f]{64})$/;
/** Where redirected reads go: no fault is applied there. */
const ELSEWHERE = "/elsewhere";
const TOKEN = "/token";

export async function startFaultRegistry(options: { readonly root: string }): Promise<FaultRegistry> {
  const app = await createRegistryApp(options.root);
  const front = new Front((request) => app.fetch(request));
  await front.listen();
  return front;
}

class Front implements FaultRegistry {
  fault: FaultRegistry["fault"] = () => undefined;
  tokenLifetime: number | undefined;
  accepts: FaultRegistry["accepts"];
  /** Authorization headers and when they end: performance.now(). */
  readonly #valid = new Map<string, number>();
  /** Reads left at addresses that expire, by their query. */
  readonly #uses = new Map<string, number>();
  readonly #app: App;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #requests: SeenRequest[] = [];
  #host = "";

  constructor(app: App) {
    this.#app = app;
    this.#server = createServer((incoming, outgoing) => {
      this.#serve(incoming, outgoing).catch(() => outgoing.destroy());
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {}); // clients that go away are what this is for
    });
  }

  get host(): string {
    return this.#host;
  }

  get url(): string {
    return `http://${this.#host}`;
  }

  get requests(): readonly SeenRequest[] {
    return this.#requests;
  }

  get reads(): readonly SeenRequest[] {
    return this.#requests.filter(({ method, digest }) => method === "GET" && digest !== undefined);
  }

  get sent(): number {
    return this.reads.reduce((sum, { sent }) => sum + sent, 0);
  }

  get tokens(): number {
    return this.#valid.size;
  }

  revokeTokens(): void {
    for (const header of this.#valid.keys()) this.#valid.set(header, 0);
  }

  clear(): void {
    this.#requests = [];
  }

  async listen(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("Cannot find the server's port");
    this.#host = `127.0.0.1:${address.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const url = incoming.url ?? "";
    const elsewhere = url.startsWith(ELSEWHERE);
    if (url.startsWith(TOKEN)) return this.#giveToken(incoming, outgoing);
    const seen = this.#note(incoming);
    if (!elsewhere && !this.#allows(incoming)) return this.#askForToken(outgoing);
    if (elsewhere && this.#expired(url)) return void outgoing.writeHead(403).end();
    const isRead = seen.method === "GET" && seen.digest !== undefined;
    const fault = isRead && !elsewhere ? await this.fault(seen) : undefined;
    if (fault !== undefined && (await this.#withoutBody(fault, incoming, outgoing))) return;
    const response = await this.#app(this.#request(incoming, fault));
    await this.#send(response, fault, seen, outgoing);
  }

  async #giveToken(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { username, password } = await loginOf(incoming);
    if (this.accepts !== undefined && !this.accepts(username, password))
      return void outgoing.writeHead(401).end('{"errors":[{"code":"UNAUTHORIZED"}]}');
    const token = `token-${this.#valid.size + 1}`;
    const lifetime = this.tokenLifetime ?? 0;
    this.#valid.set(`Bearer ${token}`, performance.now() + lifetime);
    const json = JSON.stringify({ token, access_token: token, expires_in: lifetime / 1000 });
    outgoing.writeHead(200, { "content-type": "application/json" }).end(json);
  }

  #allows({ headers }: IncomingMessage): boolean {
    if (this.tokenLifetime === undefined) return true;
    return performance.now() < (this.#valid.get(headers.authorization ?? "") ?? 0);
  }

  #askForToken(outgoing: ServerResponse): void {
    const challenge = `Bearer realm="${this.url}${TOKEN}",service="fault"`;
    outgoing.writeHead(401, { "www-authenticate": challenge }).end('{"errors":[{"code":"UNAUTHORIZED"}]}');
  }

  #expired(url: string): boolean {
    const key = url.split("?", 2)[1] ?? "";
    const left = this.#uses.get(key);
    if (left === undefined) return false;
    this.#uses.set(key, left - 1);
    return left <= 0;
  }

  #redirectTarget(path: string, uses: number | undefined): string {
    const target = `${this.url}${ELSEWHERE}${path}`;
    if (uses === undefined) return target;
    const key = `signature=${this.#uses.size}`;
    this.#uses.set(key, uses);
    return `${target}?${key}`;
  }

  #note(incoming: IncomingMessage): SeenRequest {
    const path = (incoming.url ?? "").split("?", 1)[0]?.replace(ELSEWHERE, "") ?? "";
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(incoming.headers.range ?? "") ?? [];
    const range = first === undefined ? undefined : { start: Number(first), end: Number(last) + 1 };
    const digest = BLOB.exec(path)?.[1];
    const before = this.reads.filter(
      (old) => old.digest === digest && old.range?.start === range?.start && old.range?.end === range?.end,
    );
    const seen: SeenRequest = {
      method: incoming.method ?? "",
      path,
      digest,
      range,
      attempt: before.length + 1,
      authorized: incoming.headers.authorization !== undefined,
      query: /\?.*/.exec(incoming.url ?? "")?.[0] ?? "",
      headers: incoming.headers,
      sent: 0,
      isGone: () => incoming.socket.destroyed,
    };
    this.#requests.push(seen);
    return seen;
  }

  /** True when the fault is the whole answer. */
  async #withoutBody(fault: Fault, incoming: IncomingMessage, outgoing: ServerResponse): Promise<boolean> {
    switch (fault.kind) {
      case "status": {
        const headers = {
          "content-type": "application/json",
          ...(fault.status === 401 ? { "www-authenticate": 'Basic realm="fault"' } : {}),
          ...(fault.retryAfter === undefined ? {} : { "retry-after": String(fault.retryAfter) }),
        };
        outgoing.writeHead(fault.status, headers).end('{"errors":[{"code":"UNKNOWN","message":"a fault"}]}');
        return true;
      }
      case "redirect": {
        const location = fault.to ?? this.#redirectTarget(incoming.url ?? "", fault.uses);
        outgoing.writeHead(307, { location }).end();
        return true;
      }
      case "hang":
        return fault.after === undefined;
      case "reset":
        if (fault.after === undefined) incoming.socket.destroy();
        return fault.after === undefined;
      default:
        return false;
    }
  }

  #request(incoming: IncomingMessage, fault: Fault | undefined): Request {
    const url = `${this.url}${(incoming.url ?? "").replace(ELSEWHERE, "")}`;
    const headers = new Headers();
    for (const [name, value] of Object.entries(incoming.headers))
      if (typeof value === "string") headers.set(name, value);
    if (fault?.kind === "ignore-range") headers.delete("range");
    const method = incoming.method ?? "GET";
    const empty = method === "GET" || method === "HEAD";
    const body = empty ? null : (Readable.toWeb(incoming) as unknown as ReadableStream<Uint8Array>);
    return new Request(url, { method, headers, body });
  }

  async #send(
    response: Response,
    fault: Fault | undefined,
    seen: SeenRequest,
    outgoing: ServerResponse,
  ): Promise<void> {
    const headers = Object.fromEntries(response.headers);
    const bytes = response.body === null ? undefined : spoilt(await response.bytes(), fault);
    if (bytes !== undefined && fault?.kind === "short") headers["content-length"] = String(bytes.byteLength);
    outgoing.writeHead(response.status, headers);
    if (bytes === undefined) {
      outgoing.end();
      return;
    }
    if (fault?.kind === "trickle") return this.#trickle(bytes, fault.bytes, seen, outgoing);
    if (fault?.kind === "ignore-range" && fault.rest !== undefined) {
      const half = bytes.byteLength >> 1;
      outgoing.write(bytes.subarray(0, half));
      await fault.rest;
      outgoing.end(bytes.subarray(half));
      seen.sent += bytes.byteLength;
      return;
    }
    const stops = fault?.kind === "hang" || fault?.kind === "reset" ? fault.after : undefined;
    if (stops === undefined) {
      outgoing.end(bytes);
      seen.sent += bytes.byteLength;
      return;
    }
    const part = bytes.subarray(0, stops);
    await new Promise<void>((resolve) => outgoing.write(part, () => resolve()));
    seen.sent += part.byteLength;
    if (fault?.kind === "reset") outgoing.socket?.destroy();
  }

  async #trickle(
    bytes: Uint8Array,
    step: number,
    seen: SeenRequest,
    outgoing: ServerResponse,
  ): Promise<void> {
    for (let at = 0; at < bytes.byteLength && !outgoing.destroyed; at += step) {
      const part = bytes.subarray(at, at + step);
      outgoing.write(part);
      seen.sent += part.byteLength;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    outgoing.end();
  }
}

/** Basic credentials, or those of OAuth2's form. */
async function loginOf(incoming: IncomingMessage): Promise<{ username: string; password: string }> {
  const [, encoded = ""] = /^Basic (.+)$/.exec(incoming.headers.authorization ?? "") ?? [];
  const [, user = "", secret = ""] = /^([^:]*):(.*)$/.exec(Buffer.from(encoded, "base64").toString()) ?? [];
  if (incoming.method !== "POST") return { username: user, password: secret };
  const form = new URLSearchParams(Buffer.concat(await incoming.toArray()).toString());
  return { username: form.get("username") ?? user, password: form.get("password") ?? secret };
}

function spoilt(bytes: Uint8Array, fault: Fault | undefined): Uint8Array {
  if (fault?.kind === "short") return bytes.subarray(0, Math.max(0, bytes.byteLength - fault.missing));
  if (fault?.kind !== "flip") return bytes;
  const copy = new Uint8Array(bytes);
  copy[fault.at] = (copy[fault.at] ?? 0) ^ 1;
  return copy;
}
