/** Registries that send readers to another host, and answers to ranges that do not fit. */
import { beforeEach, expect, onTestFinished, test } from "vitest";
import type { ByteRange } from "../content/content.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { readAll } from "../content/verified.ts";
import { RegistryStore } from "./store.ts";

const BYTES = sampleBytes(100_000);
const BLOB = descriptorOf(BYTES);
const RANGE: ByteRange = { start: 10, end: 20_010 };

type Answer = (request: Request) => Response | Promise<Response>;

interface Host {
  readonly host: string;
  readonly seen: Request[];
  answer: Answer;
}

function startHost(): Host {
  const host: { -readonly [key in keyof Host]: Host[key] } = {
    host: "",
    seen: [],
    answer: () => new Response(null, { status: 404 }),
  };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      host.seen.push(request);
      return host.answer(request);
    },
  });
  onTestFinished(() => server.stop(true));
  host.host = `127.0.0.1:${server.port}`;
  return host;
}

function ranged(request: Request): Response {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "") ?? [];
  if (first === undefined) return new Response(new Uint8Array(BYTES));
  const part = new Uint8Array(BYTES.subarray(Number(first), Number(last) + 1));
  const headers = { "content-range": `bytes ${first}-${last}/${BYTES.byteLength}` };
  return new Response(part, { status: 206, headers });
}

let registry: Host;
let objects: Host;
let store: RegistryStore;

beforeEach(() => {
  registry = startHost();
  objects = startHost();
  let signature = 0;
  registry.answer = (request) => {
    if (request.headers.get("authorization") === null)
      return new Response(null, { status: 401, headers: { "www-authenticate": 'Basic realm="r"' } });
    const location = `http://${objects.host}/bucket/${BLOB.digest}?signature=s3cret-${++signature}`;
    return new Response(null, { status: 307, headers: { location } });
  };
  objects.answer = ranged;
  store = new RegistryStore(`${registry.host}/a`, {
    credentials: { username: "me", password: "pässword" },
    retry: { sleep: async () => {} },
  });
});

async function read(range?: ByteRange): Promise<Uint8Array> {
  return readAll(await store.fetch(BLOB, range === undefined ? {} : { range }), 1e6, "a test blob");
}

test("RegistryStore.fetch() follows a redirect, and shows the other host no credentials", async () => {
  expect(Buffer.compare(await read(), BYTES)).toBe(0);
  expect(Buffer.compare(await read(RANGE), BYTES.subarray(RANGE.start, RANGE.end))).toBe(0);
  expect(registry.seen.at(-1)?.headers.get("authorization")).toMatch(/^Basic /);
  expect(objects.seen).toHaveLength(2);
  for (const { headers } of objects.seen) expect(headers.get("authorization")).toBeNull();
});

test("RegistryStore.fetch() remembers where a blob was redirected to", async () => {
  await read(RANGE);
  registry.seen.length = 0;
  for (let i = 0; i < 5; i++) await read({ start: i, end: i + 100 });
  expect(registry.seen).toHaveLength(0);
  expect(objects.seen).toHaveLength(6);
});

test.each([401, 403, 404, 410, 500])(
  "RegistryStore.fetch() asks the registry again when the remembered place answers %i",
  async (status) => {
    await read(RANGE);
    objects.answer = (request) =>
      request.url.endsWith("s3cret-1") ? new Response("expired", { status }) : ranged(request);
    expect(Buffer.compare(await read(RANGE), BYTES.subarray(RANGE.start, RANGE.end))).toBe(0);
    expect(objects.seen.at(-1)?.url).toMatch(/s3cret-2$/);
  },
);

test("RegistryStore.fetch() keeps addresses out of its messages", async () => {
  objects.answer = () => new Response("no", { status: 403 });
  const failure = read(RANGE);
  await expect(failure).rejects.toMatchObject({ code: "denied" });
  await expect(failure).rejects.not.toThrow(/s3cret|bucket|signature|pässword/);
  await expect(failure).rejects.toThrow(`${registry.host}/a@${BLOB.digest}`);
});

test("RegistryStore.fetch() gives up on a circle of redirects", async () => {
  objects.answer = (request) => new Response(null, { status: 302, headers: { location: request.url } });
  await expect(read(RANGE)).rejects.toThrow("redirected more than");
});

test.each([
  ["no address", {}],
  ["a broken one", { location: "http://[" }],
  ["a file", { location: "file:///etc/passwd" }],
])("RegistryStore.fetch() refuses a redirect to %s", async (_what, headers: Record<string, string>) => {
  registry.answer = () => new Response(null, { status: 307, headers });
  await expect(read(RANGE)).rejects.toMatchObject({ code: expect.stringMatching(/denied|internal/) });
  expect(registry.seen).toHaveLength(1);
});

test.each([
  ["other bytes", "bytes 11-20010/100000"],
  ["more bytes", "bytes 10-20011/100000"],
  ["fewer bytes", "bytes 10-20008/100000"],
  ["nonsense", "bytes ten to twenty"],
  ["nothing", ""],
])("RegistryStore.fetch() refuses a partial answer that announces %s", async (_what, contentRange) => {
  objects.answer = () =>
    new Response(new Uint8Array(BYTES.subarray(10, 20_010)), {
      status: 206,
      headers: contentRange === "" ? {} : { "content-range": contentRange },
    });
  await expect(read(RANGE)).rejects.toMatchObject({ code: "unavailable" });
});

test("RegistryStore.fetch() fails with corrupt when the blob ends inside the range", async () => {
  objects.answer = () =>
    new Response(new Uint8Array(BYTES.subarray(10, 15_000)), {
      status: 206,
      headers: { "content-range": "bytes 10-14999/15000" },
    });
  await expect(read(RANGE)).rejects.toMatchObject({ code: "corrupt" });
  expect(objects.seen).toHaveLength(1);
});

test("RegistryStore.fetch() remembers addresses for one method only, as signatures do", async () => {
  objects.answer = (request) =>
    request.url.endsWith(`s3cret-${request.method === "HEAD" ? 1 : 2}`)
      ? ranged(request)
      : new Response(null, { status: 403 });
  for (let i = 0; i < 3; i++) {
    expect(await store.has(BLOB)).toBe(true);
    await read(RANGE);
  }
  expect(objects.seen.map(({ method }) => method)).toEqual(["HEAD", "GET", "HEAD", "GET", "HEAD", "GET"]);
});

test("RegistryStore.fetch() is content with a whole blob whose connection hangs at the end", async () => {
  objects.answer = () =>
    new Response(new ReadableStream<Uint8Array>({ start: (out) => out.enqueue(new Uint8Array(BYTES)) }));
  store = new RegistryStore(`${registry.host}/a`, {
    credentials: { username: "me", password: "pässword" },
    idleTimeout: 50,
    retry: { sleep: async () => {} },
  });
  expect(Buffer.compare(await read(), BYTES)).toBe(0);
  expect(objects.seen).toHaveLength(1);
});

test("RegistryStore.fetch() gives the range and no more when a body never ends", async () => {
  let cancelled = false;
  objects.answer = () => {
    const body = new ReadableStream<Uint8Array>({
      start: (out) => out.enqueue(new Uint8Array(BYTES.subarray(10, 20_010))),
      cancel() {
        cancelled = true;
      },
    });
    const headers = { "content-range": `bytes 10-20009/${BYTES.byteLength}` };
    return new Response(body, { status: 206, headers });
  };
  expect(Buffer.compare(await read(RANGE), BYTES.subarray(10, 20_010))).toBe(0);
  await expect.poll(() => cancelled).toBe(true);
  // Far below the time limit for silence, which is not what must end it.
}, 5_000);
