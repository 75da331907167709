import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Containerd, startContainerd } from "../../tests/support/containerd.ts";
import { shellFiles, tarOfMachine } from "../../tests/support/machine-files.ts";
import { mountsUnder } from "../../tests/support/mounts.ts";
import { mounted } from "../../tests/support/snapshot-mounts.ts";
import { type TarItem, tarOf } from "../../tests/support/tar-builder.ts";
import { TestMounter } from "../../tests/support/test-mounter.ts";
import { digestOf } from "../base/digest.ts";
import { quietLogger } from "../base/log.ts";
import { ContainerdClient } from "../containerd/client.ts";
import { ContentStore } from "../containerd/content-store.ts";
import { ImageRecords } from "../containerd/images.ts";
import { withLease } from "../containerd/leases.ts";
import { SnapshotsClient } from "../containerd/snapshots.ts";
import type { FetchOptions } from "../content/content.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { readAll, streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { ANNOTATION, MEDIA } from "../oci/media-types.ts";
import { type PullReport, pullImage, pullReference } from "./pull.ts";
import { chainIdOf, findReferences } from "./resolve-reference.ts";
import { type SnapshotServer, serveSnapshots } from "./service.ts";
import { Snapshotter } from "./snapshotter.ts";

let directory: string;
let daemon: Containerd;
let client: ContainerdClient;
let mounter: TestMounter;
let snapshotter: Snapshotter;
let server: SnapshotServer;
let nydus: SnapshotsClient;

beforeAll(async () => {
  directory = await mkdtemp("/tmp/nt-pull-");
  await chmod(directory, 0o711);
  mounter = new TestMounter();
  client = new ContainerdClient({ address: `${directory}/c/c.sock`, namespace: "default" });
  snapshotter = await Snapshotter.open({
    root: `${directory}/root`,
    mounter,
    findReferences: async (bootstrap, namespace) =>
      findReferences(client, chainIdOf(bootstrap) ?? digestOf(new Uint8Array()), namespace),
  });
  server = await serveSnapshots(snapshotter, `${directory}/s.sock`, { log: quietLogger });
  daemon = await startContainerd({ directory: `${directory}/c`, snapshotters: { nydus: server.address } });
  nydus = new SnapshotsClient(client, "nydus");
});

/** Whatever a test pulled goes again, and takes everything with it. */
afterEach(async () => {
  await daemon.removeContainers();
  const images = new ImageRecords(client);
  for (const { name } of await images.list()) await images.remove(name);
  await collect();
  expect(await leftovers()).toEqual({ content: "", snapshots: [], overlayfs: [], leases: "", mounts: [] });
});

afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await snapshotter[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** The end of a lease runs containerd's collector and waits for it. */
async function collect(): Promise<void> {
  await withLease(client, async () => {});
}

async function leftovers(): Promise<Record<string, unknown>> {
  await snapshotter.cleanup();
  return {
    content: (await daemon.ctr(["content", "ls", "-q"])).stdout,
    snapshots: await snapshotter.list(),
    overlayfs: await new SnapshotsClient(client, "overlayfs").list(),
    leases: (await daemon.ctr(["leases", "ls", "-q"])).stdout,
    mounts: mountsUnder(`${directory}/root`),
  };
}

interface TestLayer {
  readonly bytes: Uint8Array;
  readonly diffId?: string;
  readonly mediaType: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

const plainLayer = (tar: Uint8Array): TestLayer => ({
  bytes: Bun.gzipSync(new Uint8Array(tar), { level: 1 }),
  diffId: digestOf(tar),
  mediaType: MEDIA.ociLayerGzip,
});

const dataLayer = (text: string): TestLayer => ({
  bytes: new Uint8Array(100_000).fill(text.charCodeAt(0)),
  mediaType: MEDIA.nydusBlob,
  annotations: { [ANNOTATION.nydusBlob]: "true" },
});

const BOOTSTRAP_LAYER: TestLayer = {
  ...plainLayer(tarOf([file("image/image.boot", "BOOTSTRAP")])),
  annotations: {
    [ANNOTATION.nydusBootstrap]: "true",
    [ANNOTATION.nydusFsVersion]: "6",
    "containerd.io/snapshot/cri.image-ref": "evil.example/other:1", // must not win
  },
};
const NYDUS_LAYERS = [dataLayer("a"), dataLayer("b"), BOOTSTRAP_LAYER];

function file(path: string, text: string): TarItem {
  return { type: "file", path, data: new TextEncoder().encode(text), mode: 0o644 };
}

/** A store that counts what is read from it. */
class CountedStore extends MemoryStore {
  readonly fetched: string[] = [];
  onFetch: (descriptor: Descriptor) => void = () => {};

  override fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<ReadableStream<Uint8Array>> {
    this.fetched.push(descriptor.digest);
    this.onFetch(descriptor);
    return super.fetch(descriptor, options);
  }
}

async function imageOf(layers: readonly TestLayer[]): Promise<{ store: CountedStore; layers: Descriptor[] }> {
  const store = new CountedStore();
  const push = async (bytes: Uint8Array, mediaType: string): Promise<Descriptor> => {
    const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
    await store.push(descriptor, streamOf(bytes));
    return descriptor;
  };
  const json = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  const descriptors: Descriptor[] = [];
  for (const { bytes, mediaType, annotations } of layers)
    descriptors.push({ ...(await push(bytes, mediaType)), ...(annotations ? { annotations } : {}) });
  const config = {
    ...{
      architecture: process.arch === "arm64" ? "arm64" : "amd64",
      os: "linux",
      config: { Cmd: ["/bin/sh"] },
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ bytes, diffId }) => diffId ?? digestOf(bytes)) },
  };
  const manifest = {
    ...{ schemaVersion: 2, mediaType: MEDIA.ociManifest },
    ...{ config: await push(json(config), MEDIA.ociConfig), layers: descriptors },
  };
  await store.tag(await push(json(manifest), MEDIA.ociManifest), "1");
  return { store, layers: descriptors };
}

const NAME = "127.0.0.1:5000/test/app:1";
interface Overrides {
  readonly snapshotter?: string;
  readonly signal?: AbortSignal;
  readonly name?: string;
}

function pull(store: MemoryStore, overrides: Overrides = {}): Promise<PullReport> {
  const { name = NAME, ...rest } = overrides;
  return pullImage({ store, reference: pullReference(name), client, snapshotter: "nydus", ...rest });
}

test.each(["nydus", "overlayfs"])(
  "pullImage() unpacks an ordinary image that runs, with %s",
  async (name) => {
    const { store, layers } = await imageOf([
      plainLayer(await tarOfMachine(await shellFiles())),
      plainLayer(tarOf([file("etc/first", "first"), file("etc/second", "second")])),
      plainLayer(tarOf([file("etc/.wh.first", ""), file("etc/third", "third")])),
    ]);
    const report = await pull(store, { snapshotter: name });
    expect(report).toMatchObject({ image: NAME, nydus: false, snapshotter: name });
    expect(report.layers.map(({ state }) => state)).toEqual(["unpacked", "unpacked", "unpacked"]);
    expect(report.fetchedBytes).toBe(layers.reduce((sum, { size }) => sum + size, 0));
    const script =
      "cat /etc/second /etc/third; test ! -e /etc/first && echo gone; echo x > /etc/new; cat /etc/new";
    const { stdout } = await daemon.ctr([
      "run",
      "--rm",
      "--snapshotter",
      name,
      NAME,
      "c1",
      "/bin/sh",
      "-c",
      script,
    ]);
    expect(stdout).toBe("secondthirdgone\nx\n");
    expect((await daemon.ctr(["image", "check", "--snapshotter", name, "-q"])).stdout).toBe(`${NAME}\n`);
  },
);

test("pullImage() leaves the data of a Nydus image where it is", async () => {
  const { store, layers } = await imageOf(NYDUS_LAYERS);
  const report = await pull(store);
  expect(report.layers.map(({ state }) => state)).toEqual(["lazy", "lazy", "unpacked"]);
  expect(report).toMatchObject({ nydus: true, fetchedBytes: layers[2]?.size });
  for (const data of layers.slice(0, 2)) {
    expect(store.fetched).not.toContain(data.digest);
    expect(await new ContentStore(client).has(data)).toBe(false);
  }
  await collect();
  const bootstrap = await nydus.stat(report.chainId);
  expect(bootstrap).toMatchObject({
    kind: "committed",
    labels: {
      "containerd.io/snapshot.ref": report.chainId,
      "containerd.io/snapshot/cri.image-ref": NAME,
      "containerd.io/snapshot/cri.layer-digest": layers[2]?.digest,
      "containerd.io/snapshot/cri.manifest-digest": report.digest,
      "containerd.io/snapshot/nydus-fs-version": "6",
    },
  });
  const bottom = (await nydus.list()).find(({ parent }) => parent === "");
  expect(bottom?.labels["containerd.io/snapshot/cri.image-layers"]).toBe(
    layers.map(({ digest }) => digest).join(","),
  );

  const mounts = await nydus.prepare("container", report.chainId, {
    labels: { "containerd.io/gc.root": "t" },
  });
  expect(mounter.requests.at(-1)).toMatchObject({ reference: NAME });
  await mounted(directory, mounts, async (at) => {
    expect(await readFile(`${at}/bootstrap`, "utf8")).toBe("BOOTSTRAP");
  });
  await nydus.remove("container");
});

test("pullImage() ties an image together with containerd's labels", async () => {
  const { store, layers } = await imageOf(NYDUS_LAYERS);
  const report = await pull(store);
  const content = new ContentStore(client);
  const source = { "containerd.io/distribution.source.127.0.0.1": "test/app" };
  const record = await new ImageRecords(client).get(NAME);
  expect(record?.target).toMatchObject({ digest: report.digest, mediaType: MEDIA.ociManifest });
  const manifest = await content.info(report.digest);
  const config = manifest?.labels["containerd.io/gc.ref.content.config"] as typeof report.digest;
  expect(manifest?.labels).toEqual({
    ...source,
    "containerd.io/gc.ref.content.config": config,
    ...Object.fromEntries(layers.map(({ digest }, i) => [`containerd.io/gc.ref.content.l.${i}`, digest])),
  });
  expect((await content.info(config))?.labels).toEqual({
    ...source,
    "containerd.io/gc.ref.snapshot.nydus": report.chainId,
  });
  const boot = layers[2]?.digest;
  expect(boot && (await content.info(boot))?.labels).toEqual({
    ...source,
    "containerd.io/uncompressed": BOOTSTRAP_LAYER.diffId,
  });
});

test("pullImage() again fetches nothing, and another name for the image shares everything", async () => {
  const { store } = await imageOf(NYDUS_LAYERS);
  const first = await pull(store);
  const before = store.fetched.length;
  const again = await pull(store);
  expect(again).toMatchObject({ chainId: first.chainId, fetchedBytes: 0 });
  expect(again.layers.map(({ state }) => state)).toEqual(["lazy", "lazy", "exists"]);
  expect(store.fetched.length).toBe(before + 2); // manifest and config
  await pull(store, { name: "127.0.0.1:5000/other:1" });
  await new ImageRecords(client).remove(NAME);
  await collect();
  expect(await nydus.stat(first.chainId)).toBeDefined();
});

test("pullImage() twice at once makes one image", async () => {
  const { store } = await imageOf([...NYDUS_LAYERS]);
  const [one, two] = await Promise.all([pull(store), pull(store)]);
  expect(one?.chainId).toBe(two?.chainId);
  expect(await snapshotter.list()).toHaveLength(3);
});

test("pullImage() into two namespaces shares data layers and keeps both when one goes", async () => {
  const { store } = await imageOf(NYDUS_LAYERS);
  const report = await pull(store);
  const other = client.inNamespace("other");
  await pullImage({ store, reference: pullReference(NAME), client: other, snapshotter: "nydus" });
  expect((await snapshotter.list()).filter(({ layer }) => layer === "nydus-data")).toHaveLength(2);
  await new ImageRecords(client).remove(NAME);
  await collect();
  expect(await nydus.stat(report.chainId)).toBeUndefined();
  const rest = new SnapshotsClient(other, "nydus");
  expect(await rest.stat(report.chainId)).toBeDefined();
  await rest.prepare("c", report.chainId);
  await rest.remove("c");
  await new ImageRecords(other).remove(NAME);
  await collect();
});

test("pullImage() leaves nothing when it is interrupted", async () => {
  const { store, layers } = await imageOf([...NYDUS_LAYERS.slice(0, 2), BOOTSTRAP_LAYER]);
  const stop = new AbortController();
  store.onFetch = ({ digest }) => {
    if (digest === layers[2]?.digest) stop.abort();
  };
  await expect(pull(store, { signal: stop.signal })).rejects.toMatchObject({ code: "cancelled" });
  expect(await leftovers()).toMatchObject({ content: "", snapshots: [], leases: "" });
});

test("pullImage() leaves nothing when a layer is damaged", async () => {
  const wrong = plainLayer(tarOf([file("a", "a")]));
  const { store } = await imageOf([
    plainLayer(tarOf([file("b", "b")])),
    { ...wrong, diffId: digestOf(wrong.bytes) },
  ]);
  await expect(pull(store)).rejects.toMatchObject({
    code: "corrupt",
    message: expect.stringMatching(
      /^Cannot unpack layer "sha256:\w+": its diff id is sha256:\w+, the config says/,
    ),
  });
  const broken = plainLayer(tarOf([file("a", "a".repeat(100_000))]));
  const bytes = new Uint8Array(broken.bytes.subarray(0, 100));
  const cut = await imageOf([{ ...broken, bytes }]);
  await expect(pull(cut.store)).rejects.toThrow(/^Cannot unpack layer/);
  expect(await leftovers()).toMatchObject({ content: "", snapshots: [], leases: "" });
});

test("pullImage() says so when the snapshotter is not ours or not there", async () => {
  const { store } = await imageOf(NYDUS_LAYERS);
  await expect(pull(store, { snapshotter: "overlayfs" })).rejects.toMatchObject({ code: "unsupported" });
  await expect(pull(store, { snapshotter: "none" })).rejects.toThrow(/none/);
});

test("findReferences() finds images by chain ID in the namespace, tags first", async () => {
  const { store } = await imageOf(NYDUS_LAYERS);
  const { chainId, digest } = await pull(store);
  const chain = chainId as typeof digest;
  const images = new ImageRecords(client);
  const record = await images.get(NAME);
  if (record === undefined) throw new Error("the image is missing");
  await images.put({ ...record, name: `sha256:${"0".repeat(64)}` });
  await images.put({ ...record, name: `a.example/by@${digest}` });
  expect(await findReferences(client, chain, "default")).toEqual([NAME, `a.example/by@${digest}`]);
  expect(await findReferences(client, chain, undefined)).toEqual([NAME, `a.example/by@${digest}`]);
  expect(await findReferences(client, chain, "other")).toEqual([]);
  expect(await findReferences(client, digest, "default")).toEqual([]);
});

test("a container starts when no label said which image it is from", async () => {
  const { store } = await imageOf(NYDUS_LAYERS);
  const report = await pull(store);
  await nydus.remove(report.chainId); // unpack the bootstrap again, as the transfer service does: without cri labels
  await collect();
  const below = (await nydus.list()).find(({ parent: p }) => p !== "")?.name ?? "";
  const labels = { "containerd.io/snapshot.ref": report.chainId, [ANNOTATION.nydusBootstrap]: "true" };
  const mounts = await nydus.prepare("extract", below, { labels });
  await mounted(directory, mounts, async (at) => {
    await Bun.write(`${at}/image/image.boot`, "BOOTSTRAP");
  });
  await nydus.commit(report.chainId, "extract", { labels });
  await nydus.prepare("container", report.chainId);
  expect(mounter.requests.at(-1)).toMatchObject({ reference: NAME });
  await nydus.remove("container");
});

test("what was pulled can be read back through the content store", async () => {
  const { store } = await imageOf(NYDUS_LAYERS);
  const { digest } = await pull(store);
  const content = new ContentStore(client);
  const target = await content.resolve(NAME);
  expect(target.digest).toBe(digest);
  const bytes = await readAll(await content.fetch(target), 2 ** 20, "the manifest");
  expect(digestOf(bytes)).toBe(digest);
});
