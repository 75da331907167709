/**
 * Fetching a bearer token. Spec: distribution's token and oauth documents.
 *
 * @module
 */
import { corrupt, NydusError } from "../base/error.ts";
import { readAll } from "../content/verified.ts";
import { parseJsonObject } from "../oci/json.ts";
import type { Login } from "./credentials.ts";
import { type HttpRequest, type HttpResponse, isLoopback, READ, type Send } from "./http.ts";
import { statusError } from "./status.ts";

export interface TokenRequest {
  /** URL of the token service, from the challenge. */
  readonly realm: string;
  readonly service: string;
  readonly scopes: readonly string[];
  readonly credentials: Login | undefined;
  /** The user asked for http: secrets may go over it. */
  readonly clear: boolean;
  readonly signal: AbortSignal;
}

export interface Token {
  readonly value: string;
  /** Seconds that it is good for. */
  readonly lifetime: number;
}

/** What the spec says for a service that does not say. */
const DEFAULT_LIFETIME = 60;
const TOKEN_LIMIT = 2 ** 20;
const CLIENT_ID = "nydus-tool";

/** With a secret by POST (OAuth2), or by GET where the service knows nothing else; without one by GET. */
export async function fetchToken(send: Send, request: TokenRequest): Promise<Token> {
  const realm = checkedRealm(request);
  const action = `get a token from "${realm.host}"`;
  if (request.credentials !== undefined) {
    const answer = await send(postRequest(request, realm, action));
    if (answer.status === 200) return readToken(answer, action);
    const postOnly = "identityToken" in request.credentials;
    if (postOnly || ![400, 401, 403, 404, 405, 415, 501].includes(answer.status))
      throw await refusal(answer, action, request);
    await answer.discard();
  }
  const answer = await send(getRequest(request, realm, action));
  if (answer.status === 200) return readToken(answer, action);
  throw await refusal(answer, action, request);
}

/** The registry chooses the realm: a password must not travel in the clear because of it. */
function checkedRealm({ realm, credentials, clear }: TokenRequest): URL {
  if (!URL.canParse(realm))
    throw new NydusError("denied", "Cannot get a token: the registry named no token service");
  const url = new URL(realm);
  const http = url.protocol === "http:";
  if (!http && url.protocol !== "https:")
    throw new NydusError("denied", `Cannot get a token from "${url.host}": it is not a web address`);
  if (http && !clear && credentials !== undefined && !isLoopback(url.host))
    throw new NydusError(
      "denied",
      `Cannot get a token from "${url.host}": the password would be sent unencrypted; --plain-http allows it`,
    );
  return url;
}

function getRequest(request: TokenRequest, realm: URL, action: string): HttpRequest {
  const url = new URL(realm);
  if (request.service !== "") url.searchParams.set("service", request.service);
  for (const scope of request.scopes) url.searchParams.append("scope", scope);
  const { credentials, signal } = request;
  const named = credentials !== undefined && "username" in credentials ? credentials : undefined;
  if (named !== undefined) url.searchParams.set("account", named.username);
  const headers: Record<string, string> =
    named === undefined ? {} : { authorization: basic(named.username, named.password) };
  return { method: "GET", url, action, access: READ, signal, headers };
}

function postRequest(request: TokenRequest, url: URL, action: string): HttpRequest {
  const form = new URLSearchParams({
    client_id: CLIENT_ID,
    service: request.service,
    scope: request.scopes.join(" "),
  });
  const { credentials, signal } = request;
  if (credentials !== undefined && "identityToken" in credentials) {
    form.set("grant_type", "refresh_token");
    form.set("refresh_token", credentials.identityToken);
  } else if (credentials !== undefined) {
    form.set("grant_type", "password");
    form.set("username", credentials.username);
    form.set("password", credentials.password);
  }
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const body = new TextEncoder().encode(form.toString());
  return { method: "POST", url, action, access: READ, signal, headers, body };
}

async function readToken(response: HttpResponse, action: string): Promise<Token> {
  const bytes = await readAll(response.body, TOKEN_LIMIT, "a token");
  const json = parseJsonObject(bytes, "the answer of a token service");
  const value = [json.token, json.access_token].find((t) => typeof t === "string" && t !== "");
  // A line break would let the service write headers of its own.
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value))
    throw corrupt(`Cannot ${action}: its answer holds no token`);
  const seconds = Number(json.expires_in);
  return { value, lifetime: Number.isFinite(seconds) && seconds > 0 ? seconds : DEFAULT_LIFETIME };
}

async function refusal(
  response: HttpResponse,
  action: string,
  { credentials }: TokenRequest,
): Promise<NydusError> {
  const error = await statusError(response, action);
  if (error.code === "unavailable") return error;
  const who = credentials === undefined ? "an anonymous request" : "these credentials";
  return new NydusError("denied", `Cannot ${action}: it refused ${who} (${response.status})`);
}

export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}
