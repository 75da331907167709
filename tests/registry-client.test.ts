/** The registry client against a registry and a client that others wrote. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { descriptorOf, sampleBytes } from "../lib/content/contract.test-support.ts";
import { readAll, streamOf } from "../lib/content/verified.ts";
import { MEDIA } from "../lib/oci/media-types.ts";
import { dockerCredentials } from "../lib/registry/credentials.ts";
import { RegistryStore } from "../lib/registry/store.ts";
import { type Registry, startDockerRegistry } from "./support/docker-registry.ts";
import { run } from "./support/process.ts";

const USER = { username: "me", password: "pass:w ord" };

let directory: string;
let open: Registry;
let closed: Registry;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "nt-registry-client-"));
  open = await startDockerRegistry(join(directory, "open"));
  const path = join(directory, "htpasswd");
  const hash = await Bun.password.hash(USER.password, { algorithm: "bcrypt", cost: 4 });
  await writeFile(path, `${USER.username}:${hash}\n`);
  closed = await startDockerRegistry(join(directory, "closed"), {
    auth: { htpasswd: { realm: "test", path } },
  });
});

afterAll(async () => {
  await open[Symbol.asyncDispose]();
  await closed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

const LAYER = sampleBytes(3_000_000);
const CONFIG = new TextEncoder().encode(
  JSON.stringify({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [] } }),
);

/** An image of random bytes: registries and copying do not look into layers. */
async function pushImage(store: RegistryStore): Promise<string> {
  const layer = descriptorOf(LAYER, MEDIA.ociLayer);
  const config = descriptorOf(CONFIG, MEDIA.ociConfig);
  const manifest = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config, layers: [layer] };
  const bytes = new TextEncoder().encode(JSON.stringify(manifest));
  const descriptor = descriptorOf(bytes, MEDIA.ociManifest);
  await store.push(layer, streamOf(LAYER));
  await store.push(config, streamOf(CONFIG));
  await store.push(descriptor, streamOf(bytes));
  await store.tag(descriptor, "v1");
  return descriptor.digest;
}

test("RegistryStore pushes what skopeo can read", async () => {
  const digest = await pushImage(new RegistryStore(`${open.host}/ours`));
  const { stdout } = await run("skopeo", ["inspect", "--tls-verify=false", `docker://${open.host}/ours:v1`]);
  expect(JSON.parse(stdout)).toMatchObject({ Digest: digest, Layers: [descriptorOf(LAYER).digest] });
});

test("RegistryStore reads and mounts what skopeo pushed", async () => {
  await pushImage(new RegistryStore(`${open.host}/source`));
  const [from, to] = [`docker://${open.host}/source:v1`, `docker://${open.host}/theirs:copy`];
  await run("skopeo", [
    "copy",
    "--preserve-digests",
    "--src-tls-verify=false",
    "--dest-tls-verify=false",
    from,
    to,
  ]);
  const store = new RegistryStore(`${open.host}/theirs`);
  await expect(store.resolve("copy")).resolves.toMatchObject({ mediaType: MEDIA.ociManifest });
  const layer = descriptorOf(LAYER);
  const range = { start: 1_000_000, end: 1_100_000 };
  const got = await readAll(await store.fetch(layer, { range }), 1e6, "a layer");
  expect(Buffer.compare(got, LAYER.subarray(range.start, range.end))).toBe(0);
  const other = new RegistryStore(`${open.host}/mounted`);
  expect(await other.mount(layer, "theirs")).toBe(true);
  expect(await other.has(layer)).toBe(true);
});

test("RegistryStore logs in with what docker's configuration holds", async () => {
  const config = join(directory, "docker");
  await mkdir(config);
  const auth = Buffer.from(`${USER.username}:${USER.password}`).toString("base64");
  await writeFile(join(config, "config.json"), JSON.stringify({ auths: { [closed.host]: { auth } } }));
  const credentials = dockerCredentials({ env: { DOCKER_CONFIG: config } });
  await pushImage(new RegistryStore(`${closed.host}/private`, { credentials }));
  const store = new RegistryStore(`${closed.host}/private`, { credentials: USER });
  const whole = await readAll(await store.fetch(descriptorOf(LAYER)), 1e7, "a layer");
  expect(Buffer.compare(whole, LAYER)).toBe(0);
});

test.each([
  ["no credentials", undefined],
  ["a wrong password", { ...USER, password: "guess" }],
])("RegistryStore is denied with %s", async (_what, given) => {
  const store = new RegistryStore(`${closed.host}/private`, { credentials: async () => given });
  await expect(store.resolve("v1")).rejects.toMatchObject({ code: "denied" });
  await expect(store.resolve("v1")).rejects.not.toThrow(/guess|pass:w/);
});
