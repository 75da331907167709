import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { descriptorOf } from "../content/contract.test-support.ts";
import { streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { encodeJson } from "../oci/json.ts";
import { MEDIA } from "../oci/media-types.ts";
import { createRegistryApp } from "./server.ts";
import { RegistryStore } from "./store.ts";

const EMPTY = Buffer.from("{}");
const CONFIG = descriptorOf(EMPTY, MEDIA.ociEmpty);
const IMAGE = encodeJson({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: CONFIG, layers: [] });
const SUBJECT = descriptorOf(IMAGE, MEDIA.ociManifest);
const LISTS = "application/vnd.test.list";

/** Registries with the referrers API, and those from before OCI 1.1. */
const KINDS = ["new", "old"] as const;

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "referrers-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function serve(kind: (typeof KINDS)[number]) {
  const app = await createRegistryApp(root);
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => {
      if (kind === "new") return await app.fetch(request);
      if (new URL(request.url).pathname.includes("/referrers/")) return new Response(null, { status: 404 });
      const answer = await app.fetch(request);
      answer.headers.delete("oci-subject");
      return answer;
    },
  });
  return { host: `127.0.0.1:${server.port}`, [Symbol.asyncDispose]: () => server.stop(true) };
}

async function storeWithImage(host: string): Promise<RegistryStore> {
  const store = new RegistryStore(`${host}/a/b`, { retry: { attempts: 1 } });
  await store.push(CONFIG, streamOf(EMPTY));
  await store.push(SUBJECT, streamOf(IMAGE));
  return store;
}

function artifact(name: string, artifactType = LISTS): { entry: Descriptor; bytes: Uint8Array } {
  const annotations = { name };
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    artifactType,
    config: CONFIG,
    layers: [],
  };
  const bytes = encodeJson({ ...manifest, subject: SUBJECT, annotations });
  return { entry: { ...descriptorOf(bytes, MEDIA.ociManifest), artifactType, annotations }, bytes };
}

describe.each(KINDS)("a registry of the %s kind", (kind) => {
  test("lists what was attached to a manifest, by type", async () => {
    await using registry = await serve(kind);
    const store = await storeWithImage(registry.host);
    expect(await store.referrers(SUBJECT.digest, LISTS)).toEqual([]);
    const attached = [artifact("one"), artifact("two"), artifact("other", "application/vnd.test.else")];
    for (const { entry, bytes } of attached) await store.attach(SUBJECT.digest, entry, bytes);
    expect(await store.referrers(SUBJECT.digest, LISTS)).toMatchObject([
      { annotations: { name: "one" }, artifactType: LISTS },
      { annotations: { name: "two" }, artifactType: LISTS },
    ]);
  });

  test("lists what was attached twice once", async () => {
    await using registry = await serve(kind);
    const store = await storeWithImage(registry.host);
    const { entry, bytes } = artifact("one");
    for (let i = 0; i < 2; i++) await store.attach(SUBJECT.digest, entry, bytes);
    expect(await store.referrers(SUBJECT.digest, LISTS)).toHaveLength(1);
  });
});

test("a list that is none is refused", async () => {
  await using server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("[1]") });
  const store = new RegistryStore(`127.0.0.1:${server.port}/a/b`, { retry: { attempts: 1 } });
  await expect(store.referrers(SUBJECT.digest, LISTS)).rejects.toMatchObject({ code: "corrupt" });
});

test("the embedded registry answers as the specification says", async () => {
  const app = await createRegistryApp(root);
  const put = (body: Uint8Array) =>
    app.request(`/v2/a/b/manifests/${descriptorOf(body).digest}`, {
      method: "PUT",
      body: new Uint8Array(body),
      headers: { "content-type": MEDIA.ociManifest },
    });
  await app.request(`/v2/a/b/blobs/uploads/?digest=${CONFIG.digest}`, { method: "POST", body: EMPTY });
  const answer = await put(artifact("one").bytes);
  expect([answer.status, answer.headers.get("oci-subject")]).toEqual([201, SUBJECT.digest]);
  const url = `/v2/a/b/referrers/${SUBJECT.digest}`;
  const all = await app.request(url);
  expect(all.headers.get("content-type")).toBe(MEDIA.ociIndex);
  expect(await all.json()).toMatchObject({ mediaType: MEDIA.ociIndex, manifests: [{ artifactType: LISTS }] });
  const none = await app.request(`${url}?artifactType=x`);
  expect(none.headers.get("oci-filters-applied")).toBe("artifactType");
  expect(await none.json()).toMatchObject({ manifests: [] });
  // Another repository, and a subject that nobody knows.
  expect(await (await app.request(`/v2/c/referrers/${SUBJECT.digest}`)).json()).toMatchObject({
    manifests: [],
  });
  expect((await app.request("/v2/a/b/referrers/latest")).status).toBe(400);
});
