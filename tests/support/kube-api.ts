/**
 * As much of a Kubernetes API server as following pull secrets takes: lists in pages and watches, over TLS, for a token
 * or a client's certificate.
 *
 * @module
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { makeAuthority, type Pair } from "./certificates.ts";

export interface KubeApi extends AsyncDisposable {
  readonly url: string;
  /** PEM of its authority. */
  readonly ca: string;
  /** Accepted without a token. */
  readonly client: Pair;
  /** Accepted as bearer tokens. */
  readonly tokens: Set<string>;
  /** Queries of lists and watches so far. */
  readonly queries: URLSearchParams[];
  /** Create a secret or change it; tells those who watch. */
  put(name: string, auths: Readonly<Record<string, unknown>>): void;
  remove(name: string): void;
  /** End all watches as a server does whose history is too short: with a 410. */
  expire(): void;
}

interface Secret {
  readonly metadata: { readonly name: string; readonly uid: string; readonly resourceVersion: string };
  readonly type: string;
  readonly data: Readonly<Record<string, string>>;
}

const PAGE = 2;

/** @param directory for its certificates */
export async function startKubeApi(directory: string): Promise<KubeApi> {
  const authority = await makeAuthority(directory);
  const own = await authority.issue("api", "subjectAltName=IP:127.0.0.1\n");
  const client = await authority.issue("client", "extendedKeyUsage=clientAuth\n");
  const api = new Api(authority.cert, client, own);
  await api.listen();
  return api;
}

class Api implements KubeApi {
  readonly ca: string;
  readonly client: Pair;
  readonly tokens = new Set<string>();
  readonly queries: URLSearchParams[] = [];
  readonly #server: Server;
  readonly #secrets = new Map<string, Secret>();
  readonly #watchers = new Set<ServerResponse>();
  #version = 1;

  constructor(ca: string, client: Pair, own: Pair) {
    this.ca = ca;
    this.client = client;
    const tls = { ...own, ca, requestCert: true, rejectUnauthorized: false };
    this.#server = createServer(tls, (request, response) => this.#serve(request, response));
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  put(name: string, auths: Readonly<Record<string, unknown>>): void {
    const known = this.#secrets.has(name);
    const secret: Secret = {
      metadata: { name, uid: `uid-${name}`, resourceVersion: `${++this.#version}` },
      type: "kubernetes.io/dockerconfigjson",
      data: { ".dockerconfigjson": Buffer.from(JSON.stringify({ auths })).toString("base64") },
    };
    this.#secrets.set(name, secret);
    this.#tell(known ? "MODIFIED" : "ADDED", secret);
  }

  remove(name: string): void {
    const secret = this.#secrets.get(name);
    this.#secrets.delete(name);
    this.#version++;
    if (secret !== undefined) this.#tell("DELETED", secret);
  }

  expire(): void {
    this.#tell("ERROR", { kind: "Status", code: 410, reason: "Expired" });
    for (const watcher of this.#watchers) watcher.end();
    this.#watchers.clear();
  }

  #tell(type: string, object: unknown): void {
    for (const watcher of this.#watchers) watcher.write(`${JSON.stringify({ type, object })}\n`);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", this.url);
    if (!this.#knows(request)) return void response.writeHead(401).end();
    const selector = url.searchParams.get("fieldSelector");
    if (url.pathname !== "/api/v1/secrets" || selector !== "type=kubernetes.io/dockerconfigjson")
      return void response.writeHead(404).end();
    this.queries.push(url.searchParams);
    response.writeHead(200, { "content-type": "application/json" });
    if (url.searchParams.get("watch") !== "true") return this.#list(url.searchParams, response);
    response.flushHeaders();
    this.#watchers.add(response);
    response.on("close", () => this.#watchers.delete(response));
  }

  #list(query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get("continue") ?? 0);
    const all = [...this.#secrets.values()];
    const more = from + PAGE < all.length ? { continue: `${from + PAGE}` } : {};
    const metadata = { resourceVersion: `${this.#version}`, ...more };
    response.end(JSON.stringify({ kind: "SecretList", metadata, items: all.slice(from, from + PAGE) }));
  }

  #knows({ headers, socket }: IncomingMessage): boolean {
    const token = /^Bearer (.+)$/.exec(headers.authorization ?? "")?.[1] ?? "";
    return this.tokens.has(token) || (socket as TLSSocket).authorized;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
