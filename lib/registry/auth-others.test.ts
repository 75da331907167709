/** Credentials that are not accepted, or end: the next ones of their source are used. */
import { expect, test } from "vitest";
import { streamOf } from "../content/verified.ts";
import { withAuth } from "./auth.ts";
import { type CredentialSource, type Credentials, sameCredentials } from "./credentials.ts";
import { type HttpRequest, type HttpResponse, READ, type Send } from "./http.ts";

const BEARER = 'Bearer realm="https://auth.example/token",service="s"';
const BASIC = 'Basic realm="x"';
const GET: HttpRequest = {
  method: "GET",
  url: new URL("https://registry.example/v2/a/b/blobs/x"),
  action: 'read "x"',
  access: READ,
};
const login = (password: string): Credentials => ({ username: "me", password });

function answer(status: number, headers: Record<string, string> = {}, body: object = {}): HttpResponse {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  return { status, headers: new Headers(headers), body: streamOf(bytes), discard: async () => {} };
}

interface Rules {
  readonly challenge: string;
  /** Of the registry, by the password behind the request; undefined = no credentials. */
  readonly status: (password: string | undefined) => number;
  /** Of the token service. */
  readonly tokenStatus?: (password: string | undefined) => number;
}

/** A registry whose tokens are passwords. */
function registry({ challenge, status, tokenStatus = () => 200 }: Rules) {
  const seen: (string | undefined)[] = [];
  const send: Send = async ({ url, headers, body }) => {
    const given = headers?.authorization;
    if (url.host === "auth.example") {
      const form = new URLSearchParams(body === undefined ? "" : Buffer.from(body as Uint8Array).toString());
      const password = form.get("password") ?? undefined;
      const code = tokenStatus(password);
      return answer(code, {}, code === 200 ? { token: `for-${password}` } : {});
    }
    const password = given?.startsWith("Basic ")
      ? Buffer.from(given.slice(6), "base64").toString().slice(3)
      : given?.replace(/^Bearer (for-)?/, "");
    seen.push(password);
    return answer(status(password), { "www-authenticate": challenge });
  };
  return { seen, send };
}

/** As a chain of several sources answers. */
function several(...passwords: string[]): CredentialSource {
  return async (_, { refused = [] }) =>
    passwords.map(login).find((one) => !refused.some((other) => sameCredentials(one, other)));
}

function open(send: Send, credentials: CredentialSource, now: () => number = () => 1000): Send {
  return withAuth(send, { registry: "registry.example", repository: "a/b", credentials, now });
}

test.each([
  ["the token service refuses", BEARER, { tokenStatus: (p) => (p === "c" ? 200 : 401), status: yes("c") }],
  ["the registry refuses, by their token", BEARER, { status: yes("c") }],
  ["lack the permission", BEARER, { status: yes("c", 403) }],
  ["the registry refuses", BASIC, { status: yes("c") }],
  ["the registry forbids it", BASIC, { status: yes("c", 403) }],
] satisfies [string, string, Omit<Rules, "challenge">][])(
  "withAuth() goes on to the next credentials after those that %s, and stays with them",
  async (_, challenge, rules) => {
    const { send, seen } = registry({ challenge, ...rules });
    const authorized = open(send, several("a", "b", "c"));
    expect((await authorized(GET)).status).toBe(200);
    seen.length = 0;
    expect((await authorized(GET)).status).toBe(200);
    expect(seen).toEqual(["c"]);
  },
);

/** The registry's answer to one password, and to the others. */
function yes(password: string, otherwise = 401): Rules["status"] {
  return (given) => (given === undefined ? 401 : given === password ? 200 : otherwise);
}

test("withAuth() tries nobody's name after all credentials are refused", async () => {
  const rules: Rules = {
    challenge: BEARER,
    tokenStatus: (password) => (password === undefined ? 200 : 401),
    status: (password) => (password === "undefined" ? 200 : 401),
  };
  expect((await open(registry(rules).send, several("a", "b"))(GET)).status).toBe(200);
});

test("withAuth() says what the first refusal said when nothing is accepted", async () => {
  const { send } = registry({ challenge: BEARER, tokenStatus: () => 401, status: () => 401 });
  await expect(open(send, several("a", "b"))(GET)).rejects.toMatchObject({
    code: "denied",
    message: 'Cannot get a token from "auth.example": it refused these credentials (401)',
  });
});

test("withAuth() gives up credentials before they end", async () => {
  let [now, password] = [0, "one"];
  const { send, seen } = registry({ challenge: BASIC, status: (given) => (given === undefined ? 401 : 200) });
  const source: CredentialSource = async () => ({ ...login(password), expires: now + 60_000 });
  const authorized = open(send, source, () => now);
  await authorized(GET);
  password = "two";
  now = 50_000;
  await authorized(GET);
  now = 55_000;
  await authorized(GET);
  expect(seen).toEqual([undefined, "one", "one", "two"]);
});

test("withAuth() sends a token that was given for the registry as it is", async () => {
  const { send, seen } = registry({ challenge: BEARER, status: yes("t0ken") });
  const authorized = open(send, async () => ({ registryToken: "t0ken" }));
  expect((await authorized(GET)).status).toBe(200);
  expect(seen).toEqual([undefined, "t0ken"]);
});
