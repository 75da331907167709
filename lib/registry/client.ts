/**
 * One repository of one registry, ready to be asked: transport, authentication, scheme and redirects put together.
 *
 * @module
 */
import { isRepository, type Reference } from "../oci/reference.ts";
import { withAuth } from "./auth.ts";
import {
  type CredentialSource,
  type Credentials,
  dockerCredentials,
  fixedCredentials,
} from "./credentials.ts";
import { type HttpRequest, isAt, type Send } from "./http.ts";
import { withRedirects } from "./redirect.ts";
import { DEFAULT_RETRY, type RetryPolicy } from "./retry.ts";
import { type SchemeOptions, schemesFor, withScheme } from "./scheme.ts";
import { createTransport, type Observer, type TransportOptions } from "./transport.ts";

export interface RegistryOptions extends SchemeOptions, TransportOptions {
  /** Default: docker's config.json and its helpers. */
  readonly credentials?: Credentials | CredentialSource;
  readonly retry?: Partial<RetryPolicy>;
  /** Milliseconds since 1970; for tests. */
  readonly now?: () => number;
}

export interface RegistryClient {
  /** "host:port/repository", as in references. */
  readonly name: string;
  readonly repository: string;
  readonly send: Send;
  readonly retry: RetryPolicy;
  readonly observer: Observer;
  /** A URL under the repository: "blobs/sha256:...". */
  url(path: string): URL;
}

/** Docker's registry answers under another name than it goes by. */
function apiHost(registry: string): string {
  return registry === "docker.io" ? "registry-1.docker.io" : registry;
}

export function createClient(
  { registry, repository }: Pick<Reference, "registry" | "repository">,
  options: RegistryOptions = {},
): RegistryClient {
  if (!isRepository(repository)) throw new RangeError(`Cannot use repository "${repository}"`);
  const host = apiHost(registry);
  const bare = createTransport(options);
  const own = withScheme(withAuth(bare, authOptions(registry, repository, options)), host, options);
  const routed: Send = (request: HttpRequest) => (isAt(request.url, host) ? own(request) : bare(request));
  const [scheme] = schemesFor(host, options);
  return {
    name: `${registry}/${repository}`,
    repository,
    send: withRedirects(routed),
    retry: { ...DEFAULT_RETRY, ...options.retry },
    observer: options.observer ?? {},
    url: (path) => new URL(`${scheme}//${host}/v2/${repository}/${path}`),
  };
}

function authOptions(
  registry: string,
  repository: string,
  { credentials, now, plainHttp = false }: RegistryOptions,
): Parameters<typeof withAuth>[1] {
  const source =
    credentials === undefined
      ? dockerCredentials()
      : typeof credentials === "function"
        ? credentials
        : fixedCredentials(credentials);
  return { registry, repository, credentials: source, plainHttp, ...(now === undefined ? {} : { now }) };
}
