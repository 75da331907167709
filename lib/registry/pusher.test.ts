/** Uploads to a registry that refuses, breaks off or names odd places. */
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { streamOf } from "../content/verified.ts";
import { MEDIA } from "../oci/media-types.ts";
import { RegistryStore } from "./store.ts";

const SMALL = sampleBytes(1000);
const SMALL_BLOB = descriptorOf(SMALL);
/** Too large to be kept for another attempt. */
const LARGE = sampleBytes(6_000_000, 3);
const LARGE_BLOB = descriptorOf(LARGE);
const MANIFEST = new TextEncoder().encode(
  JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: SMALL_BLOB, layers: [] }),
);
const MANIFEST_DESCRIPTOR = descriptorOf(MANIFEST, MEDIA.ociManifest);

interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly authorization: string | null;
  readonly type: string | null;
  readonly bytes: number;
}

let host: string;
let elsewhere: string;
let seen: Seen[];
let waits: number;
/** The answer to each request; undefined = as a sound registry would. */
let answer: (seen: Seen) => Response | undefined;
let store: RegistryStore;

async function handle(request: Request): Promise<Response> {
  const url = new URL(request.url);
  const body = await request.arrayBuffer().catch(() => new ArrayBuffer());
  const noted: Seen = {
    method: request.method,
    path: url.pathname,
    query: url.search,
    authorization: request.headers.get("authorization"),
    type: request.headers.get("content-type"),
    bytes: body.byteLength,
  };
  seen.push(noted);
  const headers = { location: "/v2/a/blobs/uploads/1?state=s3cret" };
  return answer(noted) ?? new Response(null, { status: request.method === "POST" ? 202 : 201, headers });
}

beforeEach(() => {
  seen = [];
  waits = 0;
  answer = () => undefined;
  const [one, two] = [1, 2].map(() => Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: handle }));
  onTestFinished(async () => {
    await one?.stop(true);
    await two?.stop(true);
  });
  host = `127.0.0.1:${one?.port}`;
  elsewhere = `127.0.0.1:${two?.port}`;
  const sleep = async (): Promise<void> => void waits++;
  store = new RegistryStore(`${host}/a`, { credentials: async () => undefined, retry: { sleep } });
});

const methods = (): string[] => seen.map(({ method }) => method);

test.each([
  ["small", SMALL_BLOB, SMALL],
  ["large", LARGE_BLOB, LARGE],
])(
  "RegistryStore.push() sends a %s blob whole, keeping the place's own query",
  async (_what, blob, bytes) => {
    await store.push(blob, streamOf(bytes));
    expect(methods()).toEqual(["POST", "PUT"]);
    const digest = encodeURIComponent(blob.digest);
    expect(seen[1]).toMatchObject({ path: "/v2/a/blobs/uploads/1", bytes: blob.size });
    expect(seen[1]?.query).toBe(`?state=s3cret&digest=${digest}`);
  },
);

test.each([429, 500, 503])("RegistryStore.push() asks for a place again after %i", async (status) => {
  answer = () => (seen.length < 3 ? new Response(null, { status }) : undefined);
  await store.push(LARGE_BLOB, streamOf(LARGE));
  expect(methods()).toEqual(["POST", "POST", "POST", "PUT"]);
  expect(waits).toBe(2);
});

test("RegistryStore.push() sends a small blob again when the registry failed to take it", async () => {
  answer = ({ method }) =>
    method === "PUT" && seen.length < 5 ? new Response(null, { status: 502 }) : undefined;
  await store.push(SMALL_BLOB, streamOf(SMALL));
  expect(methods()).toEqual(["POST", "PUT", "POST", "PUT", "POST", "PUT"]);
});

test("RegistryStore.push() reports a large blob that cannot be sent again, and takes the upload back", async () => {
  answer = ({ method }) => (method === "PUT" ? new Response(null, { status: 502 }) : undefined);
  const failure = store.push(LARGE_BLOB, streamOf(LARGE));
  await expect(failure).rejects.toMatchObject({ code: "unavailable" });
  await expect(failure).rejects.toThrow(`Cannot push "${host}/a@${LARGE_BLOB.digest}": `);
  await expect(failure).rejects.not.toThrow("s3cret");
  expect(methods()).toEqual(["POST", "PUT", "DELETE"]);
});

test.each([
  [401, "denied"],
  [403, "denied"],
  [404, "not_found"],
  [400, "internal"],
])("RegistryStore.push() answered with %i fails with %s, and frees the body", async (status, code) => {
  let freed = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (out) => out.enqueue(LARGE.subarray(0, 1000)),
    cancel() {
      freed = true;
    },
  });
  answer = () => new Response(null, { status });
  await expect(store.push(LARGE_BLOB, body)).rejects.toMatchObject({ code });
  expect(methods()).toEqual(["POST"]);
  expect(freed).toBe(true);
});

test.each([
  ["nothing", {}],
  ["nonsense", { location: "http://[" }],
])("RegistryStore.push() fails when the place to send to is %s", async (_what, headers) => {
  answer = ({ method }) => (method === "POST" ? new Response(null, { status: 202, headers }) : undefined);
  await expect(store.push(SMALL_BLOB, streamOf(SMALL))).rejects.toThrow("named no place");
});

test("RegistryStore.push() sends a blob to another host without credentials", async () => {
  store = new RegistryStore(`${host}/a`, { credentials: { username: "me", password: "s3cret" } });
  answer = ({ method, authorization, path }) => {
    if (path === "/bucket/1") return undefined;
    if (authorization === null)
      return new Response(null, { status: 401, headers: { "www-authenticate": "Basic" } });
    const headers = { location: `http://${elsewhere}/bucket/1?sig=x` };
    return method === "POST" ? new Response(null, { status: 202, headers }) : undefined;
  };
  await store.push(LARGE_BLOB, streamOf(LARGE));
  expect(seen.at(-1)).toMatchObject({ method: "PUT", path: "/bucket/1", authorization: null });
});

test("RegistryStore.push() puts a manifest under its digest, and tag() under a name", async () => {
  await store.push(MANIFEST_DESCRIPTOR, streamOf(MANIFEST));
  await store.tag(MANIFEST_DESCRIPTOR, "v1");
  expect(seen.map(({ method, path }) => `${method} ${path}`)).toEqual([
    `PUT /v2/a/manifests/${MANIFEST_DESCRIPTOR.digest}`,
    "PUT /v2/a/manifests/v1",
  ]);
  for (const { type, bytes } of seen) expect([type, bytes]).toEqual([MEDIA.ociManifest, MANIFEST.byteLength]);
});

test("RegistryStore.push() puts a manifest again after a failure", async () => {
  answer = () => (seen.length < 3 ? new Response(null, { status: 500 }) : undefined);
  await store.push(MANIFEST_DESCRIPTOR, streamOf(MANIFEST));
  expect(methods()).toEqual(["PUT", "PUT", "PUT"]);
});

test.each(["", "a/../../b", "-x", "a?b", "sha256:1"])(
  "RegistryStore.tag() refuses the name %j",
  async (name) => {
    await expect(store.tag(MANIFEST_DESCRIPTOR, name)).rejects.toMatchObject({ code: "usage" });
    expect(methods()).toEqual([]);
  },
);
