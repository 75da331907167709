/** Blobs through a real forward proxy: what it sees, what happens when it is ill, and the proxies of the environment. */
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { type FaultRegistry, serveBlobFaultily } from "../../tests/support/fault-registry.ts";
import { type ForwardProxy, startForwardProxy } from "../../tests/support/forward-proxy.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { readAll } from "../content/verified.ts";
import type { RegistryOptions } from "./client.ts";
import { ProxyHealth, proxyHeaders } from "./proxy.ts";
import { RegistryStore } from "./store.ts";
import { createTransport } from "./transport.ts";

const BYTES = sampleBytes(300_000);
const BLOB = descriptorOf(BYTES);
const RANGE = { start: 1000, end: 201_000 };
const PIECE = BYTES.subarray(RANGE.start, RANGE.end);

let registry: FaultRegistry;
let proxy: ForwardProxy;

beforeEach(async () => {
  registry = await serveBlobFaultily(BYTES);
  const started = await startForwardProxy();
  proxy = started;
  onTestFinished(() => started[Symbol.asyncDispose]());
});

function open(options: RegistryOptions = {}): RegistryStore {
  return new RegistryStore(`${registry.host}/a/b`, {
    credentials: async () => undefined,
    retry: { sleep: async () => {} },
    patience: { least: 100, most: 400 },
    proxy: { url: proxy.url },
    ...options,
  });
}

async function read(store = open()): Promise<void> {
  const body = await store.fetch(BLOB, { range: RANGE });
  expect(Buffer.compare(await readAll(body, 1e6, "a test blob"), PIECE)).toBe(0);
}

test("blobs are asked for through the proxy, marked for peers; nothing else is", async () => {
  const store = open({
    proxy: { url: proxy.url, headers: { "X-Dragonfly-Priority": "3", "x-dragonfly-tag": "t" } },
  });
  await store.has(BLOB);
  await read(store);
  expect(registry.requests).toHaveLength(2);
  expect(proxy.requests).toHaveLength(1);
  const [seen] = proxy.requests;
  expect(seen?.target).toBe(`${registry.url}/v2/a/b/blobs/${BLOB.digest}`);
  expect(seen?.headers).toMatchObject({
    range: `bytes=${RANGE.start}-${RANGE.end - 1}`,
    "x-dragonfly-use-p2p": "true",
    "x-dragonfly-priority": "3",
    "x-dragonfly-tag": "t",
  });
});

test.each([
  ["refuses", 403],
  ["limits", 429],
  ["fails", 500],
  ["cannot reach the registry", 502],
  ["hangs", "hang"],
] as const)("the registry itself is asked when the proxy %s, unmarked", async (_what, trouble) => {
  proxy.trouble = () => trouble;
  await read();
  expect(proxy.requests).toHaveLength(1);
  expect(registry.reads).toHaveLength(1);
  expect(Object.keys(registry.reads[0]?.headers ?? {}).join()).not.toContain("dragonfly");
});

test("a proxy that is not there costs no read", async () => {
  await proxy[Symbol.asyncDispose]();
  const store = open();
  for (let i = 0; i < 3; i++) await read(store);
  expect(registry.reads).toHaveLength(3);
});

test("a proxy is asked again when it is well again, and not while its health check fails", async () => {
  let now = 0;
  const health = new ProxyHealth(`${proxy.url}/ping`, createTransport(), () => now);
  expect(health.isUp).toBe(true);
  await expect.poll(() => proxy.pings).toBe(1);
  proxy.pingStatus = 503;
  expect(health.isUp).toBe(true);
  now += 5000;
  await expect.poll(() => health.isUp).toBe(false);
  expect(proxy.pings).toBe(2);
  proxy.pingStatus = 200;
  now += 5000;
  await expect.poll(() => health.isUp).toBe(true);
});

test("a proxy whose health check fails is passed over", async () => {
  proxy.pingStatus = 503;
  const store = open({ proxy: { url: proxy.url, ping: `${proxy.url}/ping` } });
  await read(store);
  await expect.poll(() => proxy.pings).toBe(1);
  const before = proxy.requests.length;
  await read(store);
  expect(proxy.requests).toHaveLength(before);
});

test("a token for the registry is fetched past the proxy, and a password never passes it", async () => {
  registry.tokenLifetime = 60_000;
  const store = open({ credentials: { username: "me", password: "geheim" } });
  await read(store);
  expect(registry.tokens).toBe(1);
  expect(proxy.requests.every(({ target }) => target.includes("/blobs/"))).toBe(true);
  expect(proxy.requests.at(-1)?.headers.authorization).toBe("Bearer token-1");
});

test("what the registry refuses fails at once though the proxy is gone, and the error names the proxy", async () => {
  const { host } = proxy;
  await proxy[Symbol.asyncDispose]();
  registry.fault = () => ({ kind: "status", status: 404 });
  await expect(read()).rejects.toMatchObject({ code: "not_found" });
  const direct = createTransport({ proxyUrl: proxy.url });
  const url = new URL("http://registry.invalid/x");
  const sending = direct({ method: "GET", url, action: "read it", access: { write: false } });
  await expect(sending).rejects.toThrow(`Cannot read it: proxy ${host} refused the connection`);
});

test.each([
  ["not an address", "is not a URL"],
  ["ftp://proxy", "is not a URL"],
  ["http://user:geheim@proxy", "must not hold a name or password"],
])("%s is no proxy", (url, state) => {
  expect(() => open({ proxy: { url } })).toThrow(`Cannot use the proxy: its address ${state}`);
  expect(() => open({ proxy: { url } })).not.toThrow("geheim");
});

test("proxyHeaders() lets the user's headers win, however they are written", () => {
  expect(proxyHeaders({ url: "http://p", headers: { "X-Dragonfly-Use-P2P": "false" } })).toEqual({
    "x-dragonfly-use-p2p": "false",
    "x-dragonfly-priority": "6",
  });
});

describe("the environment's proxies", () => {
  const request = (url: string): Parameters<ReturnType<typeof createTransport>>[0] => ({
    method: "GET",
    url: new URL(url),
    action: "read it",
    access: { write: false },
  });
  beforeEach(() => {
    vi.stubEnv("HTTP_PROXY", proxy.url);
    vi.stubEnv("HTTPS_PROXY", proxy.url);
    vi.stubEnv("NO_PROXY", "");
    onTestFinished(() => void vi.unstubAllEnvs());
  });

  test("HTTP_PROXY and HTTPS_PROXY are used, and NO_PROXY exempts", async () => {
    proxy.trouble = () => 418;
    expect((await createTransport()(request("http://registry.invalid/x"))).status).toBe(418);
    await createTransport()(request("https://registry.invalid/x")).catch(() => {});
    expect(proxy.requests.map(({ method, target }) => `${method} ${target}`)).toEqual([
      "GET http://registry.invalid/x",
      "CONNECT registry.invalid:443",
    ]);
    vi.stubEnv("NO_PROXY", ".invalid");
    await expect(createTransport()(request("http://registry.invalid/x"))).rejects.toThrow("not a known host");
    expect(proxy.requests).toHaveLength(2);
  });

  test("a registry on this machine is asked directly", async () => {
    const store = new RegistryStore(`${registry.host}/a/b`, { credentials: async () => undefined });
    await read(store);
    expect(proxy.requests).toEqual([]);
  });
});
