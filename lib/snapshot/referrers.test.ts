import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type FaultRegistry, startFaultRegistry } from "../../tests/support/fault-registry.ts";
import { writeLayout } from "../../tests/support/oci-layout.ts";
import { type TarItem, tarOf } from "../../tests/support/tar-builder.ts";
import type { Digest } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import { createLogger } from "../base/log.ts";
import { chainIds } from "../containerd/chain-id.ts";
import { convert } from "../convert/convert.ts";
import type { ConvertOptions } from "../convert/image.ts";
import { readBootstrapLayer } from "../image/bootstrap-layer.ts";
import { copyImage } from "../image/copy.ts";
import { loadImage } from "../image/load.ts";
import { openStore } from "../image/open.ts";
import { layerAdopter } from "./adopt-layers.ts";
import { LABEL } from "./labels.ts";
import { type ReferredLayer, Referrers, type ReferrersOptions } from "./referrers.ts";

const REQUEST = { retry: { attempts: 1 } };
const file = (path: string, data: string): TarItem => ({ path, type: "file", data: Buffer.from(data) });

let root: string;
let registry: FaultRegistry;
let log: string[];
let now: number;
let referrers: Referrers;
let reference: string;
/** Of an image of two layers: what each is found by. */
let lower: ReferredLayer;
let top: ReferredLayer;

beforeEach(async () => {
  root = await mkdtemp("/tmp/nt-referrers-");
  registry = await startFaultRegistry({ root: join(root, "registry") });
  reference = `${registry.host}/app:1`;
  log = [];
  now = 0;
  referrers = open();
  const layout = await writeLayout(join(root, "app"), [tarOf([file("a", "a")]), tarOf([file("b", "b")])]);
  const from = await openStore(`oci:${layout.directory}:${layout.tag}`);
  const to = await openStore(reference, REQUEST);
  await copyImage(from.store, await from.store.resolve(from.reference), to.store, to.reference);
  const { descriptor, layers } = await loadImage(to.store, to.reference);
  const [first, second] = chainIds(layers.map(({ diffId }) => diffId)) as [Digest, Digest];
  lower = { reference, manifest: descriptor.digest, chainId: first };
  top = { ...lower, chainId: second };
});
afterEach(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

function open(options: Partial<ReferrersOptions> = {}): Referrers {
  return new Referrers({
    openImage: (name) => openStore(name, REQUEST),
    check: async () => {},
    directory: join(root, "referring"),
    log: createLogger((line) => log.push(line), "warn"),
    now: () => now,
    ...options,
  });
}

const convertApp = (options: Partial<ConvertOptions> = {}) =>
  convert({
    ...{ source: reference, target: `${registry.host}/app:1-nydus`, withReferrer: true, concurrency: 1 },
    ...options,
  });
const questions = () => registry.requests.filter(({ path }) => path.includes("/referrers/"));

test("the registry is asked once for an image, and what it has is not asked for again", async () => {
  await convertApp();
  registry.clear();
  expect(await Promise.all([referrers.find(lower), referrers.find(top)])).toEqual(["lower", "top"]);
  expect(questions()).toHaveLength(1);
  registry.clear();
  const made = await referrers.adopt(top, join(root, "place"));
  expect(registry.requests).toEqual([]);
  const { store, reference: tag } = await openStore(`${registry.host}/app:1-nydus`, REQUEST);
  const bootstrap = await readBootstrapLayer(store, await loadImage(store, tag));
  expect(await readFile(made?.bootstrap ?? "")).toEqual(Buffer.from(bootstrap));
  expect(await readdir(join(root, "referring"))).toEqual([]);
  // For another snapshot of the same layer.
  expect(await referrers.adopt(top, join(root, "other"))).toMatchObject({ format: made?.format });
  expect(await referrers.adopt(lower, join(root, "lower"))).toMatchObject({ format: made?.format });
  expect(log).toEqual([]);
});

test("a layer of another image is fetched", async () => {
  await convertApp();
  const strange = { ...top, chainId: top.manifest };
  expect(await referrers.find(strange)).toBeUndefined();
  expect(await referrers.adopt(strange, join(root, "place"))).toBeUndefined();
});

test("that there is none is remembered for a while", async () => {
  expect(await referrers.find(lower)).toBeUndefined();
  await convertApp();
  registry.clear();
  expect(await referrers.find(top)).toBeUndefined();
  expect(registry.requests).toEqual([]);
  now += 600_000;
  expect(await referrers.find(top)).toBe("top");
  expect(log).toEqual([]);
});

test("a registry that does not answer costs one attempt, and a line in the log", async () => {
  await registry[Symbol.asyncDispose]();
  expect(await referrers.find(lower)).toBeUndefined();
  expect(await referrers.find(top)).toBeUndefined();
  expect(log).toHaveLength(1);
  expect(log[0]).toContain("pulled the ordinary way");
});

test("a registry that keeps a pull waiting is not waited for", async () => {
  await convertApp();
  registry.fault = () => ({ kind: "hang" });
  referrers = open({ patience: 100 });
  expect(await referrers.find(lower)).toBeUndefined();
  expect(log.join()).toContain("pulled the ordinary way");
});

test("layers that a Nydus image cannot tell apart are read themselves", async () => {
  await convertApp({ tarfs: true });
  const adopt = layerAdopter((name) => openStore(name, REQUEST), referrers);
  const made = async ({ manifest, chainId }: ReferredLayer): Promise<string | undefined> => {
    const labels = { [LABEL.target]: chainId, [LABEL.manifestDigest]: manifest };
    const snapshot = { name: chainId, labels };
    return (await adopt(snapshot, reference, join(root, chainId))).format;
  };
  expect(await made(top)).toBe("RAFS v6, by a referrer");
  expect(log).toEqual([]);
  expect(await made(lower)).toBe("OCI, indexed");
  expect(log.join()).toContain("the layers themselves are read");
});

test("a bootstrap that cannot be mounted is thrown away", async () => {
  await convertApp();
  referrers = open({ check: () => Promise.reject(corrupt("Cannot trust it")) });
  expect(await referrers.find(top)).toBeUndefined();
  expect(log.join()).toContain("Cannot trust it");
  expect(await readdir(join(root, "referring"))).toEqual([]);
});

test("a bootstrap that no layer came for goes away", async () => {
  await convertApp();
  expect(await referrers.find(lower)).toBe("lower");
  expect(await readdir(join(root, "referring"))).toHaveLength(1);
  now += 600_000;
  await referrers.find({ ...lower, reference: `${registry.host}/absent:1` });
  await expect.poll(() => readdir(join(root, "referring"))).toEqual([]);
});
