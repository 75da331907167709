import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hono } from "hono";
import { expect, onTestFinished, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { MEDIA } from "../oci/media-types.ts";
import { createRegistryApp, serveRegistry } from "./server.ts";

const BLOB = new Uint8Array(sampleBytes(100_000));
const DIGEST = digestOf(BLOB);
const OTHER = digestOf(new Uint8Array([1]));

async function temporary(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "nt-registry-"));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  return root;
}

async function registry(root?: string): Promise<Hono> {
  return createRegistryApp(root ?? (await temporary()));
}

async function upload(app: Hono, name = "a/b"): Promise<string> {
  const started = await app.request(`/v2/${name}/blobs/uploads/`, { method: "POST" });
  expect(started.status).toBe(202);
  return started.headers.get("location") ?? "";
}

function pushed(app: Hono, bytes: Uint8Array<ArrayBuffer>, digest = digestOf(bytes)): Promise<Response> {
  return Promise.resolve(
    app.request(`/v2/a/b/blobs/uploads/?digest=${digest}`, { method: "POST", body: bytes }),
  );
}

async function codeOf(response: Response): Promise<[number, string | undefined]> {
  const { errors } = (await response.json()) as { errors: { code: string }[] };
  return [response.status, errors[0]?.code];
}

/** A manifest over blobs that are pushed first. */
async function manifest(app: Hono): Promise<Uint8Array<ArrayBuffer>> {
  const config = new Uint8Array(new TextEncoder().encode("{}"));
  await pushed(app, config);
  await pushed(app, BLOB);
  const document = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: descriptorOf(config, MEDIA.ociConfig),
    layers: [descriptorOf(BLOB, MEDIA.ociLayer)],
  };
  return new Uint8Array(new TextEncoder().encode(JSON.stringify(document)));
}

function putManifest(app: Hono, reference: string, body: Uint8Array<ArrayBuffer>): Promise<Response> {
  const headers = { "content-type": MEDIA.ociManifest };
  return Promise.resolve(app.request(`/v2/a/b/manifests/${reference}`, { method: "PUT", body, headers }));
}

test("createRegistryApp() says that it is a registry", async () => {
  const answer = await (await registry()).request("/v2/");
  expect(answer.status).toBe(200);
  expect(answer.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
});

test("createRegistryApp() takes a blob in one request, in two, and in pieces", async () => {
  const app = await registry();
  expect((await pushed(app, BLOB)).status).toBe(201);

  const place = await upload(app);
  const second = new Uint8Array(sampleBytes(10, 2));
  const put = { method: "PUT", body: second };
  expect((await app.request(`${place}?digest=${digestOf(second)}`, put)).status).toBe(201);

  const pieces = new Uint8Array(sampleBytes(9_000, 3));
  let next = await upload(app);
  for (const start of [0, 4_000, 8_000]) {
    const body = pieces.subarray(start, start + 4_000);
    const range = `${start}-${start + body.byteLength - 1}`;
    const answer = await app.request(next, { method: "PATCH", body, headers: { "content-range": range } });
    expect([answer.status, answer.headers.get("range")]).toEqual([202, `0-${start + body.byteLength - 1}`]);
    next = answer.headers.get("location") ?? "";
  }
  const end = await app.request(`${next}?digest=${digestOf(pieces)}`, { method: "PUT" });
  expect([end.status, end.headers.get("docker-content-digest")]).toEqual([201, digestOf(pieces)]);
  const got = await app.request(`/v2/a/b/blobs/${digestOf(pieces)}`);
  expect(Buffer.compare(await got.bytes(), pieces)).toBe(0);
});

test("createRegistryApp() says where an upload stands and refuses pieces out of order", async () => {
  const app = await registry();
  const place = await upload(app);
  await app.request(place, { method: "PATCH", body: BLOB.subarray(0, 100) });
  const asked = await app.request(place);
  expect([asked.status, asked.headers.get("range")]).toEqual([204, "0-99"]);
  const headers = { "content-range": "200-299" };
  const wrong = await app.request(place, { method: "PATCH", body: BLOB.subarray(200, 300), headers });
  expect(wrong.status).toBe(416);
  expect(wrong.headers.get("range")).toBe("0-99");
});

test("createRegistryApp() stores nothing under a digest that the bytes do not have", async () => {
  const root = await temporary();
  const app = await registry(root);
  expect(await codeOf(await pushed(app, BLOB, OTHER))).toEqual([400, "DIGEST_INVALID"]);
  const place = await upload(app);
  const answer = await app.request(`${place}?digest=${OTHER}`, { method: "PUT", body: BLOB });
  expect(await codeOf(answer)).toEqual([400, "DIGEST_INVALID"]);
  expect((await app.request(`/v2/a/b/blobs/${OTHER}`)).status).toBe(404);
  expect((await app.request(`/v2/a/b/blobs/${DIGEST}`)).status).toBe(404);
  expect(await readdir(join(root, "uploads"))).toEqual([]);
  expect(await readdir(join(root, "blobs/sha256"))).toEqual([]);
});

test("createRegistryApp() goes on after a body that broke off", async () => {
  const app = await registry();
  const place = await upload(app);
  let pulls = 0;
  const body = new ReadableStream({
    pull(controller) {
      if (pulls++ === 0) controller.enqueue(BLOB.subarray(0, 50_000));
      else controller.error(new Error("gone"));
    },
  });
  expect((await app.request(place, { method: "PATCH", body })).status).toBe(500);
  expect((await app.request(place)).headers.get("range")).toBe("0-49999");
  const rest = { method: "PUT", body: BLOB.subarray(50_000) };
  expect((await app.request(`${place}?digest=${DIGEST}`, rest)).status).toBe(201);
});

test("createRegistryApp() lets only one request write to an upload", async () => {
  const app = await registry();
  const place = await upload(app);
  const gate = Promise.withResolvers<void>();
  const slow = new ReadableStream({
    async pull(controller) {
      await gate.promise;
      controller.enqueue(BLOB);
      controller.close();
    },
  });
  const first = app.request(`${place}?digest=${DIGEST}`, { method: "PUT", body: slow });
  const second = await app.request(place, { method: "PATCH", body: BLOB });
  expect(second.status).toBe(409);
  gate.resolve();
  expect((await first).status).toBe(201);
  expect((await app.request(place)).status).toBe(404);
});

test("createRegistryApp() forgets an upload that is cancelled", async () => {
  const root = await temporary();
  const app = await registry(root);
  const place = await upload(app);
  expect((await app.request(place, { method: "DELETE" })).status).toBe(204);
  expect(await codeOf(await app.request(place, { method: "PATCH", body: BLOB }))).toEqual([
    404,
    "BLOB_UPLOAD_UNKNOWN",
  ]);
  expect(await readdir(join(root, "uploads"))).toEqual([]);
});

test("createRegistryApp() removes uploads of an earlier process and nothing else", async () => {
  const root = await temporary();
  await mkdir(join(root, "uploads"));
  await writeFile(join(root, "uploads/keep.txt"), "mine");
  await upload(await registry(root));
  expect((await readdir(join(root, "uploads"))).length).toBe(2);
  await registry(root);
  expect(await readdir(join(root, "uploads"))).toEqual(["keep.txt"]);
});

test("createRegistryApp() mounts a blob that is there and starts an upload for one that is not", async () => {
  const app = await registry();
  await pushed(app, BLOB);
  const mount = (digest: string): Promise<Response> =>
    Promise.resolve(app.request(`/v2/c/blobs/uploads/?mount=${digest}&from=a/b`, { method: "POST" }));
  expect((await mount(DIGEST)).status).toBe(201);
  expect((await mount(OTHER)).status).toBe(202);
});

test.each([
  ["bytes=0-0", 206, 0, 1],
  ["bytes=99990-", 206, 99_990, 100_000],
  ["bytes=-10", 206, 99_990, 100_000],
  ["bytes=99990-200000", 206, 99_990, 100_000],
  ["bytes=5-4", 200, 0, 100_000],
  ["bytes=0-1,5-6", 200, 0, 100_000],
  ["lines=1-2", 200, 0, 100_000],
])("createRegistryApp() answers Range: %s", async (range, status, start, end) => {
  const app = await registry();
  await pushed(app, BLOB);
  for (const method of ["GET", "HEAD"]) {
    const answer = await app.request(`/v2/a/b/blobs/${DIGEST}`, { method, headers: { range } });
    expect(answer.status).toBe(status);
    expect(answer.headers.get("content-length")).toBe(String(end - start));
    expect(answer.headers.get("content-range")).toBe(
      status === 206 ? `bytes ${start}-${end - 1}/100000` : null,
    );
    const bytes = method === "HEAD" ? new Uint8Array() : BLOB.subarray(start, end);
    expect(Buffer.compare(await answer.bytes(), bytes)).toBe(0);
  }
});

test("createRegistryApp() answers 416 for a range past the end", async () => {
  const app = await registry();
  await pushed(app, BLOB);
  const headers = { range: "bytes=100000-" };
  const answer = await app.request(`/v2/a/b/blobs/${DIGEST}`, { headers });
  expect([answer.status, answer.headers.get("content-range")]).toEqual([416, "bytes */100000"]);
});

test("createRegistryApp() keeps manifests by tag and digest, with their media type", async () => {
  const app = await registry();
  const bytes = await manifest(app);
  const digest = digestOf(bytes);
  expect((await putManifest(app, "v1", bytes)).status).toBe(201);
  expect((await putManifest(app, digest, bytes)).status).toBe(201);
  for (const reference of ["v1", digest]) {
    for (const method of ["GET", "HEAD"]) {
      const answer = await app.request(`/v2/a/b/manifests/${reference}`, { method });
      expect(answer.status).toBe(200);
      expect(answer.headers.get("content-type")).toBe(MEDIA.ociManifest);
      expect(answer.headers.get("docker-content-digest")).toBe(digest);
      expect(answer.headers.get("content-length")).toBe(String(bytes.byteLength));
      const expected = method === "HEAD" ? new Uint8Array() : bytes;
      expect(Buffer.compare(await answer.bytes(), expected)).toBe(0);
    }
  }
});

test("createRegistryApp() refuses manifests that are wrong", async () => {
  const app = await registry();
  const bytes = await manifest(app);
  expect(await codeOf(await putManifest(app, OTHER, bytes))).toEqual([400, "DIGEST_INVALID"]);
  const text = new TextDecoder().decode(bytes);
  const encode = (json: string): Uint8Array<ArrayBuffer> => new Uint8Array(new TextEncoder().encode(json));
  const lacking = encode(text.replace(DIGEST, OTHER));
  expect(await codeOf(await putManifest(app, "v1", lacking))).toEqual([400, "MANIFEST_BLOB_UNKNOWN"]);
  expect(await codeOf(await putManifest(app, "v1", encode("no json")))).toEqual([400, "MANIFEST_INVALID"]);
  const huge = new Uint8Array(5 * 2 ** 20).fill(0x20);
  expect((await putManifest(app, "v1", huge)).status).toBe(413);
  expect((await app.request("/v2/a/b/manifests/v1")).status).toBe(404);
});

test("createRegistryApp() serves a blob that is no manifest only as a blob", async () => {
  const app = await registry();
  await pushed(app, BLOB);
  expect((await app.request(`/v2/a/b/manifests/${DIGEST}`)).status).toBe(404);
});

test("createRegistryApp() lists tags by pages, and repositories", async () => {
  const app = await registry();
  const bytes = await manifest(app);
  for (const tag of ["c", "a", "b"]) await putManifest(app, tag, bytes);
  const list = async (query: string): Promise<unknown> =>
    (await app.request(`/v2/a/b/tags/list${query}`)).json();
  expect(await list("")).toEqual({ name: "a/b", tags: ["a", "b", "c"] });
  expect(await list("?n=2")).toEqual({ name: "a/b", tags: ["a", "b"] });
  expect(await list("?n=2&last=b")).toEqual({ name: "a/b", tags: ["c"] });
  expect(await (await app.request("/v2/_catalog")).json()).toEqual({ repositories: ["a/b"] });
  expect((await app.request("/v2/none/tags/list")).status).toBe(404);
});

test.each([
  "/v2/../../etc/blobs/sha256:00",
  "/v2/a/blobs/sha256:../../../../etc/passwd",
  "/v2/a/blobs/..%2f..%2f..%2fetc%2fpasswd",
  "/v2/a%2f..%2f..%2fb/tags/list",
  "/v2/A/tags/list",
  "/v2/a/blobs/uploads/..%2f..%2findex.json",
  "/v2/a/manifests/..%2findex.json",
  "/etc/passwd",
])("createRegistryApp() has nothing at %s", async (path) => {
  const answer = await (await registry()).request(path);
  expect([400, 404]).toContain(answer.status);
});

test("serveRegistry() keeps what an earlier one stored", async () => {
  const root = await temporary();
  await pushed(await registry(root), BLOB);
  await using served = await serveRegistry({ root });
  expect(served.host).toBe(`127.0.0.1:${served.port}`);
  const answer = await fetch(`${served.url}/v2/a/blobs/${DIGEST}`, { headers: { range: "bytes=10-19" } });
  expect(answer.status).toBe(206);
  expect(Buffer.compare(await answer.bytes(), BLOB.subarray(10, 20))).toBe(0);
});

test("serveRegistry() fails when the port is taken", async () => {
  await using served = await serveRegistry({ root: await temporary() });
  const second = serveRegistry({ root: await temporary(), port: served.port });
  await expect(second).rejects.toThrow(`Cannot serve a registry on "127.0.0.1:${served.port}"`);
});
