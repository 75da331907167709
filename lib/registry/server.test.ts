import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hono } from "hono";
import { afterEach, beforeEach, expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { descriptorOf, sampleBytes } from "../content/contract.ts";
import { encodeJson } from "../oci/json.ts";
import { MEDIA } from "../oci/media-types.ts";
import { createRegistryApp, serveRegistry } from "./server.ts";

let root = "";
let app: Hono;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "nydus-registry-"));
  app = await createRegistryApp(root);
});
afterEach(() => rm(root, { recursive: true, force: true }));

const BYTES = sampleBytes(5000);
const DIGEST = digestOf(BYTES);

function send(method: string, path: string, body?: Uint8Array, headers: Record<string, string> = {}) {
  return app.request(path, { method, headers, ...(body === undefined ? {} : { body: Buffer.from(body) }) });
}

/** Starts an upload and says where it is. */
async function place(query = ""): Promise<string> {
  const started = await send("POST", `/v2/a/b/blobs/uploads/${query}`);
  expect(started.status).toBe(202);
  return started.headers.get("location") ?? "";
}

async function pushed(bytes = BYTES): Promise<string> {
  const digest = digestOf(bytes);
  const stored = await send("PUT", `${await place()}?digest=${digest}`, bytes);
  expect(stored.status).toBe(201);
  return digest;
}

async function codeOf(response: Response): Promise<string> {
  const { errors } = (await response.json()) as { errors: { code: string }[] };
  return `${response.status} ${errors[0]?.code}`;
}

test("the registry says that it is one", async () => {
  const answer = await send("GET", "/v2/");
  expect(answer.status).toBe(200);
  expect(answer.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
});

test("a blob can be pushed in one piece and read from any repository", async () => {
  await pushed();
  for (const name of ["a/b", "c"]) {
    const answer = await send("GET", `/v2/${name}/blobs/${DIGEST}`);
    expect(answer.headers.get("docker-content-digest")).toBe(DIGEST);
    expect(Buffer.compare(await answer.bytes(), BYTES)).toBe(0);
  }
});

test("a blob can be pushed with the request that starts the upload", async () => {
  const stored = await send("POST", `/v2/a/blobs/uploads/?digest=${DIGEST}`, BYTES);
  expect(stored.status).toBe(201);
  expect((await send("HEAD", `/v2/a/blobs/${DIGEST}`)).headers.get("content-length")).toBe("5000");
});

test("a blob can be pushed in pieces, and the upload says how far it is", async () => {
  const where = await place();
  const first = await send("PATCH", where, BYTES.subarray(0, 2000), { "content-range": "0-1999" });
  expect(first.status).toBe(202);
  expect(first.headers.get("range")).toBe("0-1999");
  const early = await send("PATCH", where, BYTES.subarray(3000), { "content-range": "3000-4999" });
  expect(await codeOf(early)).toBe("416 BLOB_UPLOAD_INVALID");
  await send("PATCH", where, BYTES.subarray(2000, 4000));
  const progress = await send("GET", where);
  expect([progress.status, progress.headers.get("range")]).toEqual([204, "0-3999"]);
  const last = await send("PUT", `${where}?digest=${DIGEST}`, BYTES.subarray(4000));
  expect(last.status).toBe(201);
  expect((await send("HEAD", `/v2/a/b/blobs/${DIGEST}`)).status).toBe(200);
});

test("wrong bytes are not stored, and the upload is gone", async () => {
  const where = await place();
  const refused = await send("PUT", `${where}?digest=${DIGEST}`, BYTES.subarray(1));
  expect(await codeOf(refused)).toBe("400 DIGEST_INVALID");
  expect((await send("HEAD", `/v2/a/b/blobs/${DIGEST}`)).status).toBe(404);
  expect(await codeOf(await send("GET", where))).toBe("404 BLOB_UPLOAD_UNKNOWN");
  expect(await readdir(join(root, "uploads"))).toEqual([]);
});

test("an upload can be given up", async () => {
  const where = await place();
  expect((await send("DELETE", where)).status).toBe(204);
  expect((await send("PATCH", where, BYTES)).status).toBe(404);
  expect(await readdir(join(root, "uploads"))).toEqual([]);
});

test("a blob that is there can be mounted; another one starts an upload", async () => {
  await pushed();
  const mounted = await send("POST", `/v2/c/blobs/uploads/?mount=${DIGEST}&from=a/b`);
  expect([mounted.status, mounted.headers.get("location")]).toEqual([201, `/v2/c/blobs/${DIGEST}`]);
  await place(`?mount=${digestOf(Buffer.from("none"))}&from=a/b`);
});

test.each([
  ["bytes=0-0", 206, "bytes 0-0/5000", 1],
  ["bytes=4000-", 206, "bytes 4000-4999/5000", 1000],
  ["bytes=4990-6000", 206, "bytes 4990-4999/5000", 10],
  ["bytes=-5", 206, "bytes 4995-4999/5000", 5],
  ["bytes=0-1,3-4", 200, null, 5000],
])("a blob is read by range: %s", async (range, status, contentRange, length) => {
  await pushed();
  const answer = await send("GET", `/v2/a/blobs/${DIGEST}`, undefined, { range });
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-range")).toBe(contentRange);
  expect((await answer.bytes()).byteLength).toBe(length);
});

test("a range past the end is refused with the size", async () => {
  await pushed();
  const answer = await send("GET", `/v2/a/blobs/${DIGEST}`, undefined, { range: "bytes=5000-" });
  expect([answer.status, answer.headers.get("content-range")]).toEqual([416, "bytes */5000"]);
});

async function manifest(): Promise<Uint8Array> {
  await pushed();
  const blob = descriptorOf(BYTES);
  return encodeJson({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: blob, layers: [blob] });
}

test("a manifest is found by tag and digest, with its type", async () => {
  const bytes = await manifest();
  const stored = await send("PUT", "/v2/a/b/manifests/v1", bytes, { "content-type": MEDIA.ociManifest });
  expect(stored.status).toBe(201);
  for (const reference of ["v1", digestOf(bytes)]) {
    const answer = await send("GET", `/v2/a/b/manifests/${reference}`);
    expect(answer.headers.get("content-type")).toBe(MEDIA.ociManifest);
    expect(answer.headers.get("docker-content-digest")).toBe(digestOf(bytes));
    expect(Buffer.compare(await answer.bytes(), bytes)).toBe(0);
    const head = await send("HEAD", `/v2/a/b/manifests/${reference}`);
    expect(head.headers.get("content-length")).toBe(String(bytes.byteLength));
  }
  expect((await send("GET", "/v2/other/manifests/v1")).status).toBe(404);
});

test("tags and repositories are listed, in pages when asked", async () => {
  const bytes = await manifest();
  for (const tag of ["c", "a", "b"]) await send("PUT", `/v2/a/b/manifests/${tag}`, bytes);
  await send("PUT", "/v2/a/manifests/x", bytes);
  expect(await (await send("GET", "/v2/a/b/tags/list")).json()).toEqual({
    name: "a/b",
    tags: ["a", "b", "c"],
  });
  const page = await send("GET", "/v2/a/b/tags/list?n=1&last=a");
  expect(await page.json()).toEqual({ name: "a/b", tags: ["b"] });
  expect(page.headers.get("link")).toBe('</v2/a/b/tags/list?n=1&last=b>; rel="next"');
  expect(await (await send("GET", "/v2/_catalog")).json()).toEqual({ repositories: ["a", "a/b"] });
});

test.each([
  ["GET", "/v2/a/tags/list", "404 NAME_UNKNOWN"],
  ["GET", "/v2/a/manifests/none", "404 MANIFEST_UNKNOWN"],
  ["GET", `/v2/a/manifests/${DIGEST}`, "404 MANIFEST_UNKNOWN"],
  ["GET", `/v2/a/blobs/${DIGEST}`, "404 BLOB_UNKNOWN"],
  ["GET", "/v2/a/blobs/sha256:..%2f..%2fetc", "400 DIGEST_INVALID"],
  ["GET", `/v2/A/blobs/${DIGEST}`, "400 NAME_INVALID"],
  ["PUT", "/v2/a/blobs/uploads/none?digest=x", "404 BLOB_UPLOAD_UNKNOWN"],
  ["GET", "/v1/", "404 NAME_UNKNOWN"],
])("%s %s is answered with %s", async (method, path, expected) => {
  expect(await codeOf(await send(method, path))).toBe(expected);
});

test("a blob that is no manifest is not served as one", async () => {
  await pushed();
  expect(await codeOf(await send("GET", `/v2/a/manifests/${DIGEST}`))).toBe("404 MANIFEST_UNKNOWN");
});

test.each([
  ["is no JSON", Buffer.from("x"), "v1", "400 MANIFEST_INVALID"],
  ["names a blob that was not pushed", undefined, "v1", "400 MANIFEST_BLOB_UNKNOWN"],
  ["has another digest", Buffer.from("{}"), DIGEST, "400 DIGEST_INVALID"],
  ["has no proper tag", Buffer.from("{}"), "-x", "400 DIGEST_INVALID"],
  ["is too large", Buffer.alloc(5 * 2 ** 20, 0x20), "v1", "413 MANIFEST_INVALID"],
])("a manifest is refused when it %s", async (_what, bytes, reference, expected) => {
  const absent = descriptorOf(Buffer.from("absent"));
  const body = bytes ?? encodeJson({ schemaVersion: 2, config: absent, layers: [] });
  expect(await codeOf(await send("PUT", `/v2/a/manifests/${reference}`, body))).toBe(expected);
  expect((await send("GET", "/v2/a/tags/list")).status).toBe(404);
});

test("serveRegistry() keeps what an earlier one stored", async () => {
  await pushed();
  await using registry = await serveRegistry({ root });
  expect(registry.host).toBe(`127.0.0.1:${registry.port}`);
  const answer = await fetch(`${registry.url}/v2/a/blobs/${DIGEST}`, { headers: { range: "bytes=10-19" } });
  expect(answer.status).toBe(206);
  expect(Buffer.compare(await answer.bytes(), BYTES.subarray(10, 20))).toBe(0);
});

test("serveRegistry() fails when the port is taken", async () => {
  await using registry = await serveRegistry({ root });
  const second = serveRegistry({ root: `${root}/two`, port: registry.port });
  await expect(second).rejects.toThrow(`Cannot serve a registry on "127.0.0.1:${registry.port}"`);
});
