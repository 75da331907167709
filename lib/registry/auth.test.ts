/** A registry with a token service: what is asked for, how often, and what happens to refusals. */
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { readAll, streamOf } from "../content/verified.ts";
import type { RegistryOptions } from "./client.ts";
import { RegistryStore } from "./store.ts";

const BYTES = sampleBytes(1000);
const BLOB = descriptorOf(BYTES);
const PASSWORD = "p:ä s+w%rd";

interface TokenCall {
  readonly method: string;
  readonly query: URLSearchParams;
  readonly form: URLSearchParams;
  readonly authorization: string | null;
}

/** Tokens are "token-1", "token-2", ...; the registry accepts those in `good`. */
class Service {
  host = "";
  calls: TokenCall[] = [];
  requests: Request[] = [];
  good: (token: string) => boolean = () => true;
  token: (call: TokenCall) => Response | Promise<Response> = () => this.issue();
  challenge = "";
  refusal = 401;
  issued = 0;

  issue(fields: object = { expires_in: 300 }): Response {
    return Response.json({ token: `token-${++this.issued}`, ...fields });
  }

  async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname === "/token") return this.#answerToken(request, url);
    this.requests.push(request);
    const [, token] = /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "") ?? [];
    if (token === undefined || !this.good(token))
      return Response.json(
        { errors: [{ code: "UNAUTHORIZED", message: "secret detail" }] },
        {
          status: token === undefined ? 401 : this.refusal,
          headers: { "www-authenticate": this.challenge },
        },
      );
    return request.method === "GET" ? new Response(new Uint8Array(BYTES)) : new Response(null);
  }

  async #answerToken(request: Request, url: URL): Promise<Response> {
    const call: TokenCall = {
      method: request.method,
      query: url.searchParams,
      form: new URLSearchParams(request.method === "POST" ? await request.text() : ""),
      authorization: request.headers.get("authorization"),
    };
    this.calls.push(call);
    return this.token(call);
  }
}

let service: Service;
let now: number;

beforeEach(() => {
  service = new Service();
  now = 1_000_000;
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: (request) => service.fetch(request) });
  onTestFinished(() => server.stop(true));
  service.host = `127.0.0.1:${server.port}`;
  service.challenge = `Bearer realm="http://${service.host}/token",service="the service",scope="ignored"`;
});

function open(options: RegistryOptions = {}): RegistryStore {
  const retry = { sleep: async () => {} };
  return new RegistryStore(`${service.host}/a/b`, {
    credentials: async () => undefined,
    retry,
    now: () => now,
    ...options,
  });
}

async function read(store: RegistryStore): Promise<void> {
  await readAll(await store.fetch(BLOB), 1e6, "a test blob");
}

const NAMED: RegistryOptions = { credentials: { username: "me", password: PASSWORD } };

test("withAuth() asks without a name by GET when there are no credentials", async () => {
  await read(open());
  expect(service.calls).toHaveLength(1);
  const [call] = service.calls;
  expect([call?.method, call?.authorization]).toEqual(["GET", null]);
  expect(call?.query.get("service")).toBe("the service");
  expect(call?.query.getAll("scope")).toEqual(["repository:a/b:pull"]);
});

test("withAuth() asks with a password by POST", async () => {
  await read(open(NAMED));
  const [call] = service.calls;
  expect([call?.method, call?.authorization]).toEqual(["POST", null]);
  expect(Object.fromEntries(call?.form ?? [])).toMatchObject({
    grant_type: "password",
    username: "me",
    password: PASSWORD,
    service: "the service",
    scope: "repository:a/b:pull",
  });
});

test.each([400, 404, 405])("withAuth() falls back to GET when POST is answered with %i", async (status) => {
  service.token = ({ method }) => (method === "POST" ? new Response(null, { status }) : service.issue());
  await read(open(NAMED));
  expect(service.calls.map(({ method }) => method)).toEqual(["POST", "GET"]);
  const basic = Buffer.from(`me:${PASSWORD}`, "utf8").toString("base64");
  expect(service.calls[1]?.authorization).toBe(`Basic ${basic}`);
});

test("withAuth() sends an identity token as a refresh token", async () => {
  service.token = () => Response.json({ access_token: "token-x", expires_in: 300 });
  await read(open({ credentials: { identityToken: "long lived" } }));
  expect(Object.fromEntries(service.calls[0]?.form ?? [])).toMatchObject({
    grant_type: "refresh_token",
    refresh_token: "long lived",
  });
  expect(service.requests.at(-1)?.headers.get("authorization")).toBe("Bearer token-x");
});

test("withAuth() fetches one token for many requests, and uses it until shortly before its end", async () => {
  const store = open();
  service.token = async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    return service.issue();
  };
  await Promise.all(Array.from({ length: 20 }, () => read(store)));
  expect(service.calls).toHaveLength(1);
  now += 279_000;
  await read(store);
  expect(service.calls).toHaveLength(1);
  now += 2_000;
  await read(store);
  expect(service.calls).toHaveLength(2);
});

test("withAuth() takes a token without a lifetime to hold for a minute", async () => {
  const store = open();
  service.token = () => service.issue({});
  await read(store);
  now += 50_000;
  await read(store);
  expect(service.calls).toHaveLength(1);
  now += 10_000;
  await read(store);
  expect(service.calls).toHaveLength(2);
});

test.each([
  [401, 6],
  [403, 3],
])("withAuth() renews a token that has become bad (%i), and gives up in the end", async (status, calls) => {
  const store = open();
  await read(store);
  service.refusal = status;
  service.good = (token) => token !== "token-1";
  await read(store);
  expect(service.calls).toHaveLength(2);
  service.good = () => false;
  await expect(read(store)).rejects.toMatchObject({ code: "denied" });
  expect(service.calls).toHaveLength(calls);
});

test("withAuth() is accepted by a registry whose tokens all end with each use of one", async () => {
  const store = open();
  await read(store);
  let ended = service.issued;
  service.good = (token) => {
    if (Number(token.slice("token-".length)) <= ended) return false;
    ended = service.issued;
    return true;
  };
  for (let round = 0; round < 5; round++) await Promise.all(Array.from({ length: 4 }, () => read(store)));
  expect(ended).toBeGreaterThanOrEqual(20);
});

test("withAuth() asks for a token of its own to write", async () => {
  const store = open();
  await read(store);
  await store.push(BLOB, streamOf(BYTES)).catch(() => {});
  expect(service.calls.map(({ query }) => query.get("scope"))).toEqual([
    "repository:a/b:pull",
    "repository:a/b:pull,push",
  ]);
});

test("withAuth() reports a refused password as denied, and shows no secret", async () => {
  service.token = () => Response.json({ details: "secret detail" }, { status: 401 });
  const failure = read(open(NAMED));
  await expect(failure).rejects.toMatchObject({ code: "denied" });
  await expect(failure).rejects.not.toThrow(/w%rd|w%25rd|secret|scope=/);
});

test("withAuth() tries again when the token service is overloaded, and gives up in the end", async () => {
  service.token = () => (service.calls.length === 1 ? new Response(null, { status: 503 }) : service.issue());
  await read(open());
  expect(service.calls).toHaveLength(2);
  service.token = () => new Response(null, { status: 503 });
  await expect(read(open())).rejects.toMatchObject({ code: "unavailable" });
});

test.each([
  ["is not JSON", () => new Response("<html>")],
  ["has no token", () => Response.json({ expires_in: 300 })],
  ["breaks the header", () => Response.json({ token: "a\r\nX-Other: 1" })],
])("withAuth() refuses an answer that %s", async (_what, answer) => {
  service.token = answer;
  await expect(read(open())).rejects.toMatchObject({ code: "corrupt" });
});

test("withAuth() sends no password to a token service without encryption", async () => {
  service.challenge = 'Bearer realm="http://tokens.invalid/token",service="s"';
  await expect(read(open(NAMED))).rejects.toMatchObject({ code: "denied" });
  expect(service.calls).toHaveLength(0);
});

test("withAuth() reports a registry that wants a password when there is none", async () => {
  service.challenge = 'Basic realm="here"';
  await expect(read(open())).rejects.toThrow("wants a user name and a password");
});

test("withAuth() lets go of a waiter whose signal fires, not of the token", async () => {
  const release = Promise.withResolvers<void>();
  service.token = async () => {
    await release.promise;
    return service.issue();
  };
  const store = open();
  const controller = new AbortController();
  const first = store.fetch(BLOB, { signal: controller.signal });
  const second = read(store);
  await expect.poll(() => service.calls.length).toBe(1);
  controller.abort();
  await expect(first).rejects.toMatchObject({ code: "cancelled" });
  release.resolve();
  await second;
  expect(service.calls).toHaveLength(1);
});
