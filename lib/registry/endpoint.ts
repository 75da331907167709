/**
 * One place that serves a repository, ready to be asked: transport, headers, authentication, scheme and redirects put
 * together.
 *
 * @module
 */
import { withAuth } from "./auth.ts";
import {
  type CredentialSource,
  type Credentials,
  dockerCredentials,
  fixedCredentials,
} from "./credentials.ts";
import type { Capability, Endpoint } from "./endpoints.ts";
import { isAt, type Send } from "./http.ts";
import { Pace, type PatienceLimits } from "./pace.ts";
import { checkProxy, ProxyHealth, type ProxyOptions, proxyHeaders } from "./proxy.ts";
import { withRedirects } from "./redirect.ts";
import { type SchemeOptions, schemesFor, withScheme } from "./scheme.ts";
import { createTransport, type TransportOptions } from "./transport.ts";

export interface EndpointOptions extends SchemeOptions, TransportOptions {
  /** Default: docker's config.json and its helpers. Given outright, they are for the registry itself alone. */
  readonly credentials?: Credentials | CredentialSource;
  readonly patience?: Partial<PatienceLimits>;
  /** Milliseconds since 1970; for tests. */
  readonly now?: () => number;
}

/** A place as somebody configured it. */
export interface Place {
  /** Where the API begins, "https://mirror:5000/v2"; undefined = the registry itself, as it is found. */
  readonly api: URL | undefined;
  readonly capabilities: ReadonlySet<Capability>;
  /** Sent with every request to this place. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly tls?: TransportOptions["tls"];
}

export const EVERYTHING: ReadonlySet<Capability> = new Set<Capability>(["pull", "resolve", "push"]);

export interface RepositoryName {
  /** As in references: "docker.io", "host:5000". */
  readonly registry: string;
  readonly repository: string;
}

/** Docker's registry answers under another name than it goes by. */
function apiHost(registry: string): string {
  return registry === "docker.io" ? "registry-1.docker.io" : registry;
}

export function createEndpoint(place: Place, name: RepositoryName, options: EndpointOptions): Endpoint {
  const own = apiHost(name.registry);
  const host = place.api?.host ?? own;
  const api = place.api ?? new URL(`${schemesFor(own, options)[0]}//${own}/v2`);
  const tls = place.tls === undefined ? {} : { tls: place.tls };
  const bare = createTransport({ ...options, ...tls });
  const authorized = authorize(withHeaders(bare, place.headers), place, name, options);
  const direct = place.api === undefined ? withScheme(authorized, host, options) : authorized;
  return {
    name: host,
    capabilities: place.capabilities,
    send: withRedirects((request) => (isAt(request.url, host) ? direct(request) : bare(request))),
    pace: new Pace(options.patience),
    forBlobs: false,
    isUp: true,
    url: urlsUnder(api, name, host !== own),
  };
}

/** The same place through a proxy. */
export function createProxied(
  place: Place,
  name: RepositoryName,
  options: EndpointOptions,
  proxy: ProxyOptions,
): Endpoint {
  const own = apiHost(name.registry);
  const api = new URL(place.api ?? `${schemesFor(own, options)[0]}//${own}/v2`);
  if (proxy.asHttp === true) api.protocol = "http:";
  const proxyUrl = checkProxy(proxy);
  const tls = place.tls === undefined ? {} : { tls: place.tls };
  const direct = createTransport({ ...options, ...tls });
  const through = createTransport({ ...options, ...tls, proxyUrl: proxyUrl.href });
  const marked = withHeaders(through, { ...place.headers, ...proxyHeaders(proxy) });
  const authorized = authorize(marked, place, name, options, direct);
  const health = proxy.ping === undefined ? undefined : new ProxyHealth(proxy.ping, direct);
  return {
    name: `${api.host} through ${proxyUrl.host}`,
    capabilities: new Set<Capability>(["pull"]),
    send: withRedirects((request) => (isAt(request.url, api.host) ? authorized(request) : marked(request))),
    pace: new Pace(options.patience),
    forBlobs: true,
    get isUp() {
      return health?.isUp ?? true;
    },
    url: urlsUnder(api, name, api.host !== own),
  };
}

function authorize(
  send: Send,
  place: Place,
  { registry, repository }: RepositoryName,
  options: EndpointOptions,
  tokens?: Send,
): Send {
  const own = apiHost(registry);
  const host = place.api?.host ?? own;
  return withAuth(send, {
    registry: host === own ? registry : host,
    repository,
    credentials: credentialsFor(host !== own, options.credentials),
    // A place that was configured as http was asked for as http.
    plainHttp: options.plainHttp === true || place.api?.protocol === "http:",
    ...(tokens === undefined ? {} : { tokens }),
    ...(options.now === undefined ? {} : { now: options.now }),
  });
}

function urlsUnder(
  api: URL,
  { registry, repository }: RepositoryName,
  isMirror: boolean,
): (path: string) => URL {
  const prefix = `${api.protocol}//${api.host}${api.pathname.replace(/\/$/, "")}/${repository}/`;
  return (path) => {
    const url = new URL(prefix + path);
    // How a mirror of several registries knows which one is meant.
    if (isMirror) url.searchParams.set("ns", registry);
    return url;
  };
}

/** Whoever names credentials means the registry: a mirror must not see them. */
function credentialsFor(
  isMirror: boolean,
  credentials: Credentials | CredentialSource | undefined,
): CredentialSource {
  if (credentials === undefined) return dockerCredentials();
  if (typeof credentials === "function") return credentials;
  return fixedCredentials(isMirror ? undefined : credentials);
}

function withHeaders(send: Send, headers: Readonly<Record<string, string>> | undefined): Send {
  if (headers === undefined) return send;
  return (request) => send({ ...request, headers: { ...headers, ...request.headers } });
}
