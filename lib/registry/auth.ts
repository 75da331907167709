/**
 * Authentication as a wrapper of `Send`: learns from the first 401 what the registry wants, keeps one token for each
 * scope until shortly before it expires, fetches a missing one once however many requests wait for it, and renews a
 * token that was refused. Credentials that are refused are followed by the next that the source has. Where even a fresh token is refused although tokens have worked, each request gets one of its
 * own, one request after another: such tokens end with the next use of any.
 *
 * @module
 */
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import { Turns } from "../base/turns.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import { type CredentialSource, type Credentials, type Login, sameCredentials } from "./credentials.ts";
import type { Access, HttpRequest, HttpResponse, Send } from "./http.ts";
import { isRepeatable } from "./http.ts";
import { statusError } from "./status.ts";
import { basic, fetchToken, type Token } from "./token.ts";

export interface AuthOptions {
  /** As in references and config.json: "docker.io", "host:5000". */
  readonly registry: string;
  readonly repository: string;
  readonly credentials: CredentialSource;
  /** How the token service is reached, if not as the registry is. */
  readonly tokens?: Send;
  /** Secrets may go over http, as the user asked for http. */
  readonly plainHttp?: boolean;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/** Longest time for one token request, whoever waits for it (milliseconds). */
const TOKEN_TIMEOUT = 30_000;
/** A token is given up this much before its end, but never more than a tenth of its life (seconds). */
const MARGIN = 20;

/** How often a request is sent with a token of its own. */
const OWN_TOKENS = 3;
/** How many credentials are tried for one request. */
const MAX_CREDENTIALS = 8;

interface Held {
  readonly header: string;
  readonly credentials: Credentials | undefined;
  /** Milliseconds since 1970. */
  readonly until: number;
}

export function withAuth(send: Send, options: AuthOptions): Send {
  const authenticator = new Authenticator(send, options);
  return (request) => authenticator.send(request);
}

class Authenticator {
  readonly #send: Send;
  readonly #options: AuthOptions;
  readonly #now: () => number;
  #challenge: Challenge | undefined;
  readonly #held = new Map<string, Held>();
  readonly #flights = new Map<string, Promise<Held>>();
  /** Requests of one scope that get a token of their own. */
  readonly #turns = new Turns<string>();
  #inTurn = 0;
  /** Whether a token was ever accepted. */
  #accepted = false;

  constructor(send: Send, options: AuthOptions) {
    this.#send = send;
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  async send(request: HttpRequest): Promise<HttpResponse> {
    if (this.#inTurn > 0 && isRepeatable(request)) return this.#sendInTurn(request);
    const scope = this.#scopeOf(request.access);
    const before = this.#held.get(scope);
    const header = await this.#expected(scope, request.signal);
    const response = await this.#attempt(request, header);
    if (response.status !== 401 && response.status !== 403) return response;

    const learnt = this.#learn(response);
    // A 403 says something about the token only if that was an old one.
    const stale = header !== undefined && before?.header === header;
    const hopeless = response.status === 403 ? !stale : !learnt;
    if (hopeless || !isRepeatable(request)) return response;
    await response.discard();
    if (this.#held.get(scope)?.header === header) this.#held.delete(scope);
    const renewed = await this.#current(scope, request.signal);
    const again = await this.#attempt(request, renewed.header);
    if (again.status !== 401 && again.status !== 403) return again;
    const other = await this.#withOthers(request, scope, renewed.credentials);
    if (other !== undefined) {
      await again.discard();
      return other;
    }
    if (again.status === 403) return again;
    if (this.#challenge?.scheme !== "bearer" || !this.#accepted) throw await this.#refused(again, request);
    await again.discard();
    return this.#sendInTurn(request);
  }

  async #attempt(request: HttpRequest, header: string | undefined): Promise<HttpResponse> {
    const response = await this.#send(withHeader(request, header));
    if (header !== undefined && response.status < 400) this.#accepted = true;
    return response;
  }

  /** Undefined when the source has no others that are accepted. */
  async #withOthers(
    request: HttpRequest,
    scope: string,
    refused: Credentials | undefined,
  ): Promise<HttpResponse | undefined> {
    const tried = [refused];
    while (tried.length < MAX_CREDENTIALS) {
      const held = await orAborted(this.#login(scope, tried, timeout()), request.signal).catch(noneOfThem);
      if (held === undefined) return undefined;
      const response = await this.#attempt(request, held.header);
      if (response.status !== 401 && response.status !== 403) {
        this.#held.set(scope, held);
        return response;
      }
      await response.discard();
    }
    return undefined;
  }

  async #sendInTurn(request: HttpRequest): Promise<HttpResponse> {
    const scope = this.#scopeOf(request.access);
    this.#inTurn++;
    try {
      return await this.#turns.run(scope, () => this.#sendAlone(request, scope));
    } finally {
      this.#inTurn--;
    }
  }

  async #sendAlone(request: HttpRequest, scope: string): Promise<HttpResponse> {
    for (let attempt = 1; ; attempt++) {
      request.signal?.throwIfAborted();
      const { header } = await orAborted(this.#fetch(scope, timeout()), request.signal);
      const response = await this.#attempt(request, header);
      if (response.status !== 401) return response;
      if (attempt === OWN_TOKENS) throw await this.#refused(response, request);
      await response.discard();
    }
  }

  /** What the registry wanted last time. Without credentials ask again: it may have been a mistake of the registry's. */
  async #expected(scope: string, signal?: AbortSignal): Promise<string | undefined> {
    if (this.#challenge === undefined) return undefined;
    try {
      return await this.#header(scope, signal);
    } catch (error) {
      if (this.#challenge.scheme === "basic" && isCode(error, "denied")) return undefined;
      throw error;
    }
  }

  #scopeOf({ write, alsoRead }: Access): string {
    const own = `repository:${this.#options.repository}:${write ? "pull,push" : "pull"}`;
    return alsoRead === undefined ? own : `${own} repository:${alsoRead}:pull`;
  }

  /** True when the answer says how to authenticate. */
  #learn(response: HttpResponse): boolean {
    const challenges = parseChallenges(response.headers.get("www-authenticate") ?? "");
    const found =
      challenges.find(({ scheme }) => scheme === "bearer") ??
      challenges.find(({ scheme }) => scheme === "basic");
    if (found !== undefined) this.#challenge = found;
    return found !== undefined;
  }

  async #header(scope: string, signal?: AbortSignal): Promise<string> {
    return (await this.#current(scope, signal)).header;
  }

  /** From the cache or one shared request. */
  async #current(scope: string, signal?: AbortSignal): Promise<Held> {
    const held = this.#held.get(scope);
    if (held !== undefined && this.#now() < held.until) return held;
    let flight = this.#flights.get(scope);
    if (flight === undefined) {
      // Not the caller's signal: others may wait for the same token.
      flight = this.#obtain(scope, timeout());
      flight.catch(() => {}).finally(() => this.#flights.delete(scope));
      this.#flights.set(scope, flight);
    }
    return await orAborted(flight, signal);
  }

  async #obtain(scope: string, signal: AbortSignal): Promise<Held> {
    const held = await this.#fetch(scope, signal);
    this.#held.set(scope, held);
    return held;
  }

  async #fetch(scope: string, signal: AbortSignal): Promise<Held> {
    const held = await this.#login(scope, [], signal);
    if (held !== undefined) return held;
    throw new NydusError("denied", `Cannot log in to "${this.#options.registry}": there are no credentials`);
  }

  /**
   * With the first credentials that the token service takes.
   *
   * @param tried is added to; when the source has nothing else, the answer is undefined
   * @throws what the first of several refusals said
   */
  async #login(
    scope: string,
    tried: (Credentials | undefined)[],
    signal: AbortSignal,
  ): Promise<Held | undefined> {
    const { credentials: source, registry, repository } = this.#options;
    let failure: unknown;
    while (tried.length < MAX_CREDENTIALS) {
      const refused = tried.filter((known) => known !== undefined);
      const credentials = await source(registry, { repository, refused, signal });
      if (tried.some((known) => sameCredentials(known, credentials))) break;
      tried.push(credentials);
      try {
        return await this.#holdOf(scope, credentials, signal);
      } catch (error) {
        if (!isCode(error, "denied")) throw error;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return undefined;
  }

  async #holdOf(scope: string, credentials: Credentials | undefined, signal: AbortSignal): Promise<Held> {
    if (credentials !== undefined && "registryToken" in credentials)
      return { header: `Bearer ${credentials.registryToken}`, credentials, until: this.#lifeOf(credentials) };
    return this.#challenge?.scheme === "bearer"
      ? await this.#bearer(this.#challenge, scope, credentials, signal)
      : this.#basic(credentials);
  }

  #basic(credentials: (Login & Credentials) | undefined): Held {
    if (credentials !== undefined && "username" in credentials)
      return {
        header: basic(credentials.username, credentials.password),
        credentials,
        until: this.#lifeOf(credentials),
      };
    throw new NydusError(
      "denied",
      `Cannot log in to "${this.#options.registry}": it wants a user name and a password, and there are none`,
    );
  }

  /** Until when they are sent themselves. */
  #lifeOf({ expires = Number.POSITIVE_INFINITY }: Credentials): number {
    return expires === Number.POSITIVE_INFINITY ? expires : beforeEnd(this.#now(), expires);
  }

  async #bearer(
    challenge: Challenge,
    scope: string,
    credentials: (Login & Credentials) | undefined,
    signal: AbortSignal,
  ): Promise<Held> {
    const { parameters } = challenge;
    const started = this.#now();
    const token: Token = await fetchToken(this.#options.tokens ?? this.#send, {
      realm: parameters.get("realm") ?? "",
      service: parameters.get("service") ?? "",
      scopes: scope.split(" "),
      credentials,
      clear: this.#options.plainHttp === true,
      signal,
    });
    const until = beforeEnd(started, started + token.lifetime * 1000);
    return { header: `Bearer ${token.value}`, credentials, until };
  }

  async #refused(response: HttpResponse, request: HttpRequest): Promise<NydusError> {
    const error = await statusError(response, request.action);
    return new NydusError("denied", `${error.message}; log in, or check the name`);
  }
}

/** When what is good until then is given up (milliseconds since 1970). */
function beforeEnd(now: number, end: number): number {
  return end - Math.min(MARGIN * 1000, (end - now) / 10);
}

function noneOfThem(error: unknown): undefined {
  if (!isCode(error, "denied")) throw error;
}

function timeout(): AbortSignal {
  return AbortSignal.timeout(TOKEN_TIMEOUT);
}

function withHeader(request: HttpRequest, authorization: string | undefined): HttpRequest {
  if (authorization === undefined) return request;
  return { ...request, headers: { ...request.headers, authorization } };
}

async function orAborted<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) return work;
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(toNydusError(signal.reason, "go on"));
  });
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([aborted, work]);
  } finally {
    signal.removeEventListener("abort", abort);
    aborted.catch(() => {});
  }
}
