/** Each fault is seen by a plain HTTP client as what it claims to be. */
import { connect } from "node:net";
import { beforeEach, expect, test } from "vitest";
import { descriptorOf, sampleBytes } from "../../lib/content/contract.test-support.ts";
import { RegistryStore } from "../../lib/registry/store.ts";
import { type FaultRegistry, serveBlobFaultily } from "./fault-registry.ts";

const BYTES = sampleBytes(300_000);
const BLOB = descriptorOf(BYTES);
const PATH = `/v2/a/b/blobs/${BLOB.digest}`;

let registry: FaultRegistry;

beforeEach(async () => {
  registry = await serveBlobFaultily(BYTES);
});

function get(range?: string, init: RequestInit = {}): Promise<Response> {
  const headers: Record<string, string> = range === undefined ? {} : { range };
  return fetch(`${registry.url}${PATH}`, { headers, redirect: "manual", ...init });
}

/** Head and body as they came, until the server closes the connection; no client library's opinion. */
async function raw(range: string): Promise<{ head: string; body: number; closed: boolean }> {
  const [hostname = "", port = ""] = registry.host.split(":");
  const socket = connect(Number(port), hostname);
  const chunks: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => chunks.push(bytes));
  socket.write(`GET ${PATH} HTTP/1.1\r\nHost: x\r\nRange: ${range}\r\n\r\n`);
  const closed = await new Promise<boolean>((resolve) => {
    socket.once("close", () => resolve(true));
    socket.once("error", () => resolve(true));
    setTimeout(() => resolve(false), 1_000).unref();
  });
  socket.destroy();
  const [head = "", ...rest] = Buffer.concat(chunks).toString("latin1").split("\r\n\r\n");
  return { head, body: rest.join("\r\n\r\n").length, closed };
}

test("startFaultRegistry() serves and counts while nothing is wrong", async () => {
  expect(Buffer.compare(await (await get()).bytes(), BYTES)).toBe(0);
  const part = await get("bytes=10-19");
  expect(part.status).toBe(206);
  expect(part.headers.get("content-range")).toBe(`bytes 10-19/${BYTES.byteLength}`);
  expect(Buffer.compare(await part.bytes(), BYTES.subarray(10, 20))).toBe(0);
  await get("bytes=10-19");
  expect(registry.reads.map(({ range, attempt, sent }) => ({ range, attempt, sent }))).toEqual([
    { range: undefined, attempt: 1, sent: BYTES.byteLength },
    { range: { start: 10, end: 20 }, attempt: 1, sent: 10 },
    { range: { start: 10, end: 20 }, attempt: 2, sent: 10 },
  ]);
  expect(registry.sent).toBe(BYTES.byteLength + 20);
  registry.clear();
  expect(registry.requests).toEqual([]);
});

test("startFaultRegistry() passes uploads on", async () => {
  const more = sampleBytes(5_000_000, 7);
  const { digest } = descriptorOf(more);
  const answer = await fetch(`${registry.url}/v2/a/blobs/uploads/?digest=${digest}`, {
    method: "POST",
    body: new Uint8Array(more),
  });
  expect(answer.status).toBe(201);
  const back = await fetch(`${registry.url}/v2/a/blobs/${digest}`);
  expect(Buffer.compare(await back.bytes(), more)).toBe(0);
});

test.each([401, 403, 404, 429, 500, 503])("startFaultRegistry() answers status %i", async (status) => {
  registry.fault = ({ attempt }) => (attempt === 1 ? { kind: "status", status, retryAfter: 3 } : undefined);
  const answer = await get();
  expect(answer.status).toBe(status);
  expect(answer.headers.get("retry-after")).toBe("3");
  expect(answer.headers.has("www-authenticate")).toBe(status === 401);
  await answer.arrayBuffer();
  expect((await get()).status).toBe(200);
});

test("startFaultRegistry() hangs before the answer or inside it", async () => {
  registry.fault = () => ({ kind: "hang" });
  expect(await raw("bytes=0-99999")).toEqual({ head: "", body: 0, closed: false });
  registry.fault = () => ({ kind: "hang", after: 1000 });
  const { head, body, closed } = await raw("bytes=0-99999");
  expect(head.toLowerCase()).toContain("content-length: 100000");
  expect({ body, closed }).toEqual({ body: 1000, closed: false });
});

test("startFaultRegistry() breaks connections", async () => {
  registry.fault = () => ({ kind: "reset" });
  expect(await raw("bytes=0-99999")).toEqual({ head: "", body: 0, closed: true });
  registry.fault = () => ({ kind: "reset", after: 1000 });
  const { head, body, closed } = await raw("bytes=0-99999");
  expect(head.toLowerCase()).toContain("content-length: 100000");
  expect({ body, closed }).toEqual({ body: 1000, closed: true });
});

test("startFaultRegistry() cuts, turns bits, ignores ranges and redirects", async () => {
  registry.fault = () => ({ kind: "short", missing: 7 });
  expect((await (await get("bytes=0-99")).bytes()).byteLength).toBe(93);
  registry.fault = () => ({ kind: "flip", at: 3 });
  const flipped = await (await get("bytes=100-199")).bytes();
  const differing = [...flipped.keys()].filter((i) => flipped[i] !== BYTES[100 + i]);
  expect(differing).toEqual([3]);
  registry.fault = () => ({ kind: "ignore-range" });
  const whole = await get("bytes=100-199");
  expect([whole.status, (await whole.bytes()).byteLength]).toEqual([200, BYTES.byteLength]);
  registry.fault = () => ({ kind: "redirect" });
  expect((await get()).status).toBe(307);
  const followed = await get("bytes=100-199", { redirect: "follow" });
  expect(followed.status).toBe(206);
  expect(Buffer.compare(await followed.bytes(), BYTES.subarray(100, 200))).toBe(0);
});

test("startFaultRegistry() wants tokens, and takes each for its lifetime only", async () => {
  registry.tokenLifetime = 60_000;
  const refused = await get();
  expect(refused.status).toBe(401);
  const realm = /realm="([^"]+)"/.exec(refused.headers.get("www-authenticate") ?? "")?.[1] ?? "";
  const { token, expires_in } = (await (await fetch(realm)).json()) as { token: string; expires_in: number };
  expect(expires_in).toBe(60);
  const headers = { authorization: `Bearer ${token}` };
  expect((await get(undefined, { headers })).status).toBe(200);
  registry.tokenLifetime = 0;
  const { token: late } = (await (await fetch(realm)).json()) as { token: string };
  expect((await get(undefined, { headers: { authorization: `Bearer ${late}` } })).status).toBe(401);
  expect(registry.tokens).toBe(2);
});

test("startFaultRegistry() redirects to addresses that expire", async () => {
  registry.fault = () => ({ kind: "redirect", uses: 2 });
  const location = (await get()).headers.get("location") ?? "";
  const statuses = [];
  for (let i = 0; i < 3; i++) statuses.push((await fetch(location)).status);
  expect(statuses).toEqual([200, 200, 403]);
  expect((await get()).headers.get("location")).not.toBe(location);
});

test("RegistryStore reads on while tokens are revoked and redirects expire", async () => {
  registry.tokenLifetime = 60_000;
  registry.fault = () => ({ kind: "redirect", uses: 3 });
  const store = new RegistryStore(`${registry.host}/a/b`, { credentials: async () => undefined });
  for (let start = 0; start < BYTES.byteLength; start += 10_000) {
    const range = { start, end: start + 10_000 };
    if (start % 50_000 === 0) registry.revokeTokens();
    const got = Buffer.concat(await Array.fromAsync(await store.fetch(BLOB, { range })));
    expect(Buffer.compare(got, BYTES.subarray(range.start, range.end))).toBe(0);
  }
  expect(registry.tokens).toBeGreaterThanOrEqual(3);
});
