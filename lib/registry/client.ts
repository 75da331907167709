/**
 * One repository of one registry, and the places that serve it.
 *
 * @module
 */
import { isRepository } from "../oci/reference.ts";
import type { RegistryAccess } from "./access.ts";
import {
  createEndpoint,
  createProxied,
  type EndpointOptions,
  EVERYTHING,
  type Place,
  type RepositoryName,
} from "./endpoint.ts";
import { type Endpoint, Endpoints } from "./endpoints.ts";
import { configuredPlaces } from "./hosts-file.ts";
import type { Send } from "./http.ts";
import { Http2Hosts } from "./http2-hosts.ts";
import { HedgeBudget } from "./pace.ts";
import { DEFAULT_RETRY, type RetryPolicy } from "./retry.ts";
import { ANSWER_TIMEOUT } from "./transport.ts";

export interface RegistryOptions extends EndpointOptions, RegistryAccess {
  readonly retry?: Partial<RetryPolicy>;
}

export interface RegistryClient {
  /** "host:port/repository", as in references. */
  readonly name: string;
  readonly repository: string;
  readonly endpoints: Endpoints;
  /** The place that is written to; it is also asked what it has. */
  readonly send: Send;
  readonly retry: RetryPolicy;
  readonly budget: HedgeBudget;
  /** A URL under the repository, for `send`: "blobs/sha256:...". */
  url(path: string): URL;
}

export function createClient(name: RepositoryName, options: RegistryOptions = {}): RegistryClient {
  const { registry, repository } = name;
  if (!isRepository(repository)) throw new RangeError(`Cannot use repository "${repository}"`);
  const retry = { ...DEFAULT_RETRY, ...limitOf(options), ...options.retry };
  const answerTimeout = Math.min(options.answerTimeout ?? ANSWER_TIMEOUT, retry.limit);
  const timed = { http2: new Http2Hosts(), ...options, answerTimeout };
  const endpoints = new Endpoints(endpointsFor(name, timed));
  const [target] = endpoints.order("push");
  const writable = target ?? createEndpoint(UPSTREAM, name, timed);
  return {
    name: `${registry}/${repository}`,
    repository,
    endpoints,
    send: writable.send,
    retry,
    budget: new HedgeBudget(),
    url: (path) => writable.url(path),
  };
}

const UPSTREAM: Place = { api: undefined, capabilities: EVERYTHING };

/** The registry itself comes last of the places; a proxy stands before it, and is asked first. */
function endpointsFor(name: RepositoryName, options: RegistryOptions): readonly Endpoint[] {
  const { hostsDirectory, proxy } = options;
  const configured =
    hostsDirectory === undefined ? undefined : configuredPlaces(hostsDirectory, name.registry);
  const places = configured ?? [UPSTREAM];
  const direct = places.map((place) => createEndpoint(place, name, options));
  const upstream = places.at(-1) ?? UPSTREAM;
  return proxy === undefined ? direct : [createProxied(upstream, name, options, proxy), ...direct];
}

function limitOf({ readTimeout }: RegistryAccess): Partial<RetryPolicy> {
  return readTimeout === undefined ? {} : { limit: readTimeout * 1000 };
}
