/** Which requests get which token, by a clock of their own and without a socket. */
import { expect, test } from "vitest";
import { streamOf } from "../content/verified.ts";
import { withAuth } from "./auth.ts";
import type { CredentialSource } from "./credentials.ts";
import { type HttpRequest, type HttpResponse, READ, type Send, WRITE } from "./http.ts";

const CHALLENGE = `Bearer realm="https://auth.example/token",service="registry.example",scope="ignored"`;

/** A registry and its token service, as one function. */
class FakeRegistry {
  /** Milliseconds. */
  now = 1_000_000;
  lifetime: number | undefined = 60;
  challenge = CHALLENGE;
  /** Requests to the token service. */
  readonly asked: HttpRequest[] = [];
  /** Authorization headers that reached the registry. */
  readonly seen: (string | undefined)[] = [];
  #issued = 0;
  readonly #valid = new Map<string, number>();
  /** Answers of the token service other than a token. */
  tokenStatus: (request: HttpRequest) => number = () => 200;
  /** Forget all tokens before their time. */
  revoke(): void {
    this.#valid.clear();
  }

  readonly send: Send = async (request) =>
    request.url.host === "auth.example" ? this.#token(request) : this.#registry(request);

  #token(request: HttpRequest): HttpResponse {
    this.asked.push(request);
    const status = this.tokenStatus(request);
    if (status !== 200) return answer(status, { errors: [{ code: "DENIED" }] });
    const token = `token${++this.#issued}`;
    this.#valid.set(`Bearer ${token}`, this.now + (this.lifetime ?? 60) * 1000);
    return answer(
      200,
      this.lifetime === undefined ? { access_token: token } : { token, expires_in: this.lifetime },
    );
  }

  #registry(request: HttpRequest): HttpResponse {
    const header = request.headers?.authorization;
    this.seen.push(header);
    const basic = header?.startsWith("Basic ") === true && this.challenge.startsWith("Basic");
    const until = this.#valid.get(header ?? "") ?? 0;
    if (basic || this.now < until) return answer(200, {});
    return answer(401, { errors: [{ code: "UNAUTHORIZED" }] }, { "www-authenticate": this.challenge });
  }

  open(credentials: CredentialSource = async () => undefined): Send {
    return withAuth(this.send, {
      registry: "registry.example",
      repository: "a/b",
      credentials,
      now: () => this.now,
    });
  }
}

function answer(status: number, body: object, headers: Record<string, string> = {}): HttpResponse {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  return { status, headers: new Headers(headers), body: streamOf(bytes), discard: async () => {} };
}

const GET: HttpRequest = {
  method: "GET",
  url: new URL("https://registry.example/v2/a/b/blobs/x"),
  action: 'read "x"',
  access: READ,
};
const LOGIN: CredentialSource = async () => ({ username: "me", password: "geheim" });

test("withAuth() gets a token after the first refusal and uses it from then on", async () => {
  const registry = new FakeRegistry();
  const send = registry.open();
  expect((await send(GET)).status).toBe(200);
  expect((await send(GET)).status).toBe(200);
  expect(registry.seen).toEqual([undefined, "Bearer token1", "Bearer token1"]);
  const url = registry.asked[0]?.url;
  expect(url?.searchParams.get("service")).toBe("registry.example");
  expect(url?.searchParams.getAll("scope")).toEqual(["repository:a/b:pull"]);
});

test("withAuth() works with tokens that live two seconds", async () => {
  const registry = new FakeRegistry();
  registry.lifetime = 2;
  const send = registry.open();
  for (let i = 0; i < 10; i++) {
    expect((await send(GET)).status).toBe(200);
    registry.now += 900;
  }
  expect(registry.asked).toHaveLength(5);
});

test("withAuth() renews the token once after 403, and not when it was new", async () => {
  let status = 200;
  const registry = new FakeRegistry();
  const send = withAuth(
    async (request) => {
      const got = await registry.send(request);
      return got.status === 200 && request.url.host === "registry.example" ? answer(status, {}) : got;
    },
    { registry: "r", repository: "a/b", credentials: LOGIN, now: () => registry.now },
  );
  status = 403;
  expect((await send(GET)).status).toBe(403);
  expect(registry.asked).toHaveLength(1);
  expect((await send(GET)).status).toBe(403);
  expect(registry.asked).toHaveLength(2);
});

test("withAuth() asks for more when it writes, and for other repositories that blobs come from", async () => {
  const registry = new FakeRegistry();
  const send = registry.open();
  await send({ ...GET, access: WRITE });
  await send(GET);
  await send({ ...GET, access: { write: true, alsoRead: "c" } });
  expect(registry.asked.map(({ url }) => url.searchParams.getAll("scope"))).toEqual([
    ["repository:a/b:pull,push"],
    ["repository:a/b:pull"],
    ["repository:a/b:pull,push", "repository:c:pull"],
  ]);
});

test("withAuth() speaks Basic", async () => {
  const registry = new FakeRegistry();
  registry.challenge = `Basic realm="x"`;
  const send = registry.open(LOGIN);
  await send(GET);
  await send(GET);
  const header = `Basic ${btoa("me:geheim")}`;
  expect(registry.seen).toEqual([undefined, header, header]);
  await expect(registry.open()(GET)).rejects.toMatchObject({ code: "denied" });
});

test.each([
  [`Bearer realm="http://auth.example/token"`, "the password would be sent unencrypted"],
  [`Bearer realm="ftp://auth.example/token"`, "it is not a web address"],
  [`Bearer realm="/token"`, "the registry named no token service"],
  ["Bearer", "the registry named no token service"],
])("withAuth() does not log in at %s", async (challenge, state) => {
  const registry = new FakeRegistry();
  registry.challenge = challenge;
  const sending = registry.open(LOGIN)(GET);
  await expect(sending).rejects.toMatchObject({ code: "denied" });
  await expect(sending).rejects.toThrow(state);
  expect(registry.asked).toEqual([]);
});

test("withAuth() passes an answer on that says nothing about logging in", async () => {
  const registry = new FakeRegistry();
  registry.challenge = "Negotiate";
  expect((await registry.open()(GET)).status).toBe(401);
});

test("withAuth() does not send a body twice that it cannot send twice", async () => {
  const registry = new FakeRegistry();
  const body = streamOf(new Uint8Array(10));
  expect((await registry.open()({ ...GET, method: "PUT", body, access: WRITE })).status).toBe(401);
  expect(registry.seen).toHaveLength(1);
});

test("withAuth() refuses a token that would be two headers", async () => {
  const registry = new FakeRegistry();
  const send = withAuth(
    async (request) =>
      request.url.host === "auth.example" ? answer(200, { token: "a\r\nb: c" }) : registry.send(request),
    { registry: "r", repository: "a/b", credentials: async () => undefined },
  );
  await expect(send(GET)).rejects.toMatchObject({ code: "corrupt" });
});
