/**
 * The embedded registry serves clients that we did not write, and our client keeps its promises at a registry that we
 * did not write.
 */
import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type StoreUnderTest, testBlobStore } from "../lib/content/contract.test-support.ts";
import { copyImage } from "../lib/image/copy.ts";
import { loadImage } from "../lib/image/load.ts";
import { openStore } from "../lib/image/open.ts";
import { RegistryStore } from "../lib/registry/store.ts";
import { startContainerd } from "./support/containerd.ts";
import { type Registry, startDockerRegistry } from "./support/docker-registry.ts";
import { startEmbeddedRegistry } from "./support/embedded-registry.ts";
import { makeImage } from "./support/make-image.ts";
import { type LayerCompression, writeLayout } from "./support/oci-layout.ts";
import { run } from "./support/process.ts";
import { tarOf } from "./support/tar-builder.ts";
import { openWorkspace, type Workspace, workspace } from "./support/workspace.ts";

const SEED = 501;

function skopeo(...args: string[]): Promise<unknown> {
  return run("skopeo", ["--insecure-policy", ...args]);
}

/** Names and contents of a layout's blobs. */
async function blobsOf(layout: string): Promise<Map<string, string>> {
  const directory = join(layout, "blobs/sha256");
  const all = new Map<string, string>();
  for (const name of (await readdir(directory)).sort())
    all.set(name, (await readFile(join(directory, name))).toString("base64"));
  return all;
}

async function source(
  place: Workspace,
  compression: readonly LayerCompression[] = ["gzip", "zstd"],
): Promise<string> {
  await writeLayout(place.path("source"), makeImage(SEED).layers.map(tarOf), { compression });
  return place.path("source");
}

test("registry serve takes and gives images as skopeo sends and asks for them", async () => {
  const place = await workspace();
  const layout = await source(place);
  const { host } = await startEmbeddedRegistry(place);
  const [there, here] = ["--dest-tls-verify=false", "--src-tls-verify=false"];
  await skopeo("copy", there, `oci:${layout}:t`, `docker://${host}/from/skopeo:1`);
  // The second copy finds the blobs and mounts them.
  await skopeo("copy", there, here, `docker://${host}/from/skopeo:1`, `docker://${host}/other:2`);
  await skopeo("copy", here, `docker://${host}/other:2`, `oci:${place.path("back")}:t`);
  expect(await blobsOf(place.path("back"))).toEqual(await blobsOf(layout));
  const { stdout } = await run("skopeo", ["list-tags", "--tls-verify=false", `docker://${host}/other`]);
  expect(JSON.parse(stdout)).toMatchObject({ Tags: ["2"] });
});

test("registry serve keeps docker manifests as skopeo sends them", async () => {
  const place = await workspace();
  const layout = await source(place, ["gzip"]);
  const { host } = await startEmbeddedRegistry(place);
  const there = "--dest-tls-verify=false";
  await skopeo("copy", there, "--format", "v2s2", `oci:${layout}:t`, `docker://${host}/docker:1`);
  const raw = (await run("skopeo", ["inspect", "--raw", "--tls-verify=false", `docker://${host}/docker:1`]))
    .stdout;
  expect(JSON.parse(raw)).toMatchObject({
    mediaType: "application/vnd.docker.distribution.manifest.v2+json",
  });
  await skopeo("copy", "--src-tls-verify=false", `docker://${host}/docker:1`, `dir:${place.path("dir")}`);
  expect(await readFile(place.path("dir/manifest.json"), "utf8")).toBe(raw);
});

test("registry serve works with containerd's pull and push", async () => {
  const place = await workspace();
  const layout = await source(place);
  const { host } = await startEmbeddedRegistry(place);
  const containerd = await startContainerd({ directory: place.path("c") });
  onTestFinished(() => containerd[Symbol.asyncDispose]());
  const image = `${host}/a/b/c:t`;
  await skopeo("copy", "--dest-tls-verify=false", `oci:${layout}:t`, `docker://${image}`);
  const fetchWords = ["content", "fetch", "--plain-http", "--platform", "linux/amd64"];
  await containerd.ctr([...fetchWords, image]);
  await containerd.ctr(["image", "tag", image, `${host}/pushed:t`]);
  const { stdout } = await containerd.ctr(["image", "ls"]);
  expect(stdout).toContain(`${host}/pushed:t`);
  await containerd.ctr(["image", "push", "--plain-http", `${host}/pushed:t`]);
  await containerd.ctr(["image", "push", "--plain-http", `${host}/pushed:u`, image]);
  const tags = await (await fetch(`http://${host}/v2/pushed/tags/list`)).json();
  expect(tags).toEqual({ name: "pushed", tags: ["t", "u"] });
});

test("copyImage() moves an image through every kind of store without changing a byte", async () => {
  const place = await workspace();
  const layout = await source(place);
  const { host } = await startEmbeddedRegistry(place);
  const stops = [
    `oci:${layout}:t`,
    `${host}/copied/image:t`,
    `docker://${host}/again:t`,
    `oci-archive:${place.path("a.tar")}:t`,
    `oci:${place.path("end")}:t`,
  ];
  for (const [i, to] of stops.entries()) {
    if (i === 0) continue;
    const from = await openStore(stops[i - 1] ?? "");
    await using _from = from.store;
    const target = await openStore(to, { create: true });
    await using _target = target.store;
    const root = await from.store.resolve(from.reference);
    await copyImage(from.store, root, target.store, target.reference);
  }
  expect(await blobsOf(place.path("end"))).toEqual(await blobsOf(layout));
  await skopeo("copy", `oci-archive:${place.path("a.tar")}:t`, `oci:${place.path("judge")}:t`);
  expect(await blobsOf(place.path("judge"))).toEqual(await blobsOf(layout));
});

test("archives that skopeo writes are read in place", async () => {
  const place = await workspace();
  const layout = await source(place, ["gzip"]);
  const name = "docker.io/library/made:t";
  await skopeo("copy", `oci:${layout}:t`, `oci-archive:${place.path("oci.tar")}:t`);
  await skopeo("copy", `oci:${layout}:t`, `docker-archive:${place.path("docker.tar")}:${name}`);

  const oci = await openStore(`oci-archive:${place.path("oci.tar")}:t`);
  await using _oci = oci.store;
  const wanted = await loadImage(oci.store, oci.reference);
  for (const location of [`${place.path("docker.tar")}:made:t`, place.path("docker.tar")]) {
    const docker = await openStore(`docker-archive:${location}`);
    await using _docker = docker.store;
    const image = await loadImage(docker.store, docker.reference);
    expect(image.layers.map(({ diffId }) => diffId)).toEqual(wanted.layers.map(({ diffId }) => diffId));
    const target = await openStore(`oci:${await mkdtemp(place.path("copied-"))}:t`, { create: true });
    // Copying verifies every blob against its digest.
    const root = await docker.store.resolve(docker.reference);
    const { blobs } = await copyImage(docker.store, root, target.store, target.reference);
    expect(blobs).toBe(image.layers.length + 1);
  }
});

describe("docker-registry", () => {
  let place: Workspace;
  let registry: Registry;
  let count = 0;

  beforeAll(async () => {
    place = await openWorkspace();
    registry = await startDockerRegistry(place.path("registry"));
    return async () => {
      await registry[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    };
  });

  // Blobs are shared below repositories, but each has its own links.
  testBlobStore("RegistryStore at docker-registry", async (): Promise<StoreUnderTest> => {
    count++;
    const store = new RegistryStore(`${registry.host}/r/n${count}`, { credentials: async () => undefined });
    return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
  });
});
