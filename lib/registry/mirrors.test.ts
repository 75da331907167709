/** A registry with mirrors, as hosts.toml names them: who is asked, for what, and what happens when one fails. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { type Fault, type FaultRegistry, startFaultRegistry } from "../../tests/support/fault-registry.ts";
import type { FetchOptions } from "../content/content.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { readAll, streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { MEDIA } from "../oci/media-types.ts";
import type { RegistryOptions } from "./client.ts";
import { RegistryStore } from "./store.ts";

const BYTES = sampleBytes(300_000);
const BLOB = descriptorOf(BYTES);
const RANGE = { start: 1000, end: 201_000 };
const PIECE = BYTES.subarray(RANGE.start, RANGE.end);
const MANIFEST = new TextEncoder().encode(
  JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: BLOB, layers: [] }),
);
const IMAGE: Descriptor = { ...descriptorOf(MANIFEST), mediaType: MEDIA.ociManifest };

let directory: string;
let upstream: FaultRegistry;
let first: FaultRegistry;
let second: FaultRegistry;

async function started(name: string): Promise<FaultRegistry> {
  const root = join(directory, name);
  const registry = await startFaultRegistry({ root });
  onTestFinished(() => registry[Symbol.asyncDispose]());
  const store = new RegistryStore(`${registry.host}/a/b`, { credentials: async () => undefined });
  await store.push(BLOB, streamOf(BYTES));
  await store.push(IMAGE, streamOf(MANIFEST));
  await store.tag(IMAGE, "t");
  registry.clear();
  return registry;
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "nt-mirrors-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  [upstream, first, second] = [await started("upstream"), await started("first"), await started("second")];
  configure(`[host."${first.url}"]\n[host."${second.url}"]`);
});

function configure(text: string): void {
  const own = join(directory, "hosts", `${upstream.host.replace(":", "_")}_`);
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, "hosts.toml"), text);
}

function open(options: RegistryOptions = {}): RegistryStore {
  return new RegistryStore(`${upstream.host}/a/b`, {
    credentials: async () => undefined,
    hostsDirectory: join(directory, "hosts"),
    retry: { sleep: async () => {} },
    patience: { least: 100, most: 400 },
    ...options,
  });
}

async function read(
  store = open(),
  more: Pick<FetchOptions, "damaged" | "partsOnly" | "from"> = {},
): Promise<Buffer> {
  const body = await store.fetch(BLOB, { range: RANGE, ...more });
  return Buffer.from(await readAll(body, 1e6, "a test blob"));
}

/** How often each was read from. */
function reads(): readonly number[] {
  return [first, second, upstream].map((registry) => registry.reads.length);
}

test("the first mirror is asked, and told which registry is meant", async () => {
  const store = open();
  expect(await store.resolve("t")).toEqual(IMAGE);
  expect(Buffer.compare(await read(store), PIECE)).toBe(0);
  expect(reads()).toEqual([1, 0, 0]);
  expect(upstream.requests).toEqual([]);
  const ns = `?ns=${encodeURIComponent(upstream.host)}`;
  expect(first.requests.map(({ query }) => query)).toEqual([ns, ns]);
});

/** Who was read from: Bun itself repeats a request whose kept connection breaks before the answer. */
function asked(): readonly boolean[] {
  return reads().map((count) => count > 0);
}

const FAULTS: readonly (readonly [what: string, fault: Fault])[] = [
  ["does not have it", { kind: "status", status: 404 }],
  ["refuses it", { kind: "status", status: 403 }],
  ["wants a name", { kind: "status", status: 401 }],
  ["is overloaded", { kind: "status", status: 429, retryAfter: 3600 }],
  ["fails", { kind: "status", status: 500 }],
  ["breaks off", { kind: "reset" }],
  ["breaks off later", { kind: "reset", after: 70_000 }],
  ["hangs", { kind: "hang" }],
  ["hangs later", { kind: "hang", after: 70_000 }],
  ["gives too little", { kind: "short", missing: 50_000 }],
];
test.each(FAULTS)("the next mirror is asked when the first one %s", async (_what, fault) => {
  first.fault = () => fault;
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
  expect(asked()).toEqual([true, true, false]);
});

test("the registry itself is asked when both mirrors fail", async () => {
  first.fault = () => ({ kind: "status", status: 404 });
  second.fault = () => ({ kind: "reset" });
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
  expect(asked()).toEqual([true, true, true]);
});

test("a mirror that failed is left alone for a while", async () => {
  first.fault = () => ({ kind: "status", status: 500 });
  const store = open();
  for (let i = 0; i < 5; i++) await read(store);
  expect(reads()).toEqual([1, 5, 0]);
});

test("what all refuse fails with the registry's own reason", async () => {
  first.fault = () => ({ kind: "status", status: 403 });
  for (const registry of [second, upstream]) registry.fault = () => ({ kind: "status", status: 404 });
  await expect(read()).rejects.toMatchObject({ code: "not_found" });
  expect(reads()).toEqual([1, 1, 1]);
});

test("a mirror that gave wrong bytes is passed over for that blob", async () => {
  first.fault = () => ({ kind: "flip", at: 100 });
  const store = open();
  const places: string[] = [];
  const from = (place: string): void => void places.push(place);
  expect(Buffer.compare(await read(store, { from }), PIECE)).not.toBe(0);
  expect(new Set(places)).toEqual(new Set([first.host]));
  expect(Buffer.compare(await read(store, { damaged: places }), PIECE)).toBe(0);
  expect(Buffer.compare(await read(store), PIECE)).toBe(0);
  expect(reads()).toEqual([1, 2, 0]);
});

test("the place that gave the wrong bytes is blamed, not the one that answered last", async () => {
  first.fault = () => ({ kind: "flip", at: 100 });
  const store = open();
  const places: string[][] = [[], []];
  for (const own of places) await read(store, { from: (place) => void own.push(place) });
  // Both reads had damage of the first mirror; the second one is found when another place has answered meanwhile.
  for (const damaged of places) expect(Buffer.compare(await read(store, { damaged }), PIECE)).toBe(0);
  expect(Buffer.compare(await read(store), PIECE)).toBe(0);
  expect(reads()).toEqual([2, 3, 0]);
});

test("a mirror that ignores ranges is passed over while another one does not", async () => {
  first.fault = () => ({ kind: "ignore-range" });
  const store = open();
  for (let i = 0; i < 3; i++) expect(Buffer.compare(await read(store, { partsOnly: true }), PIECE)).toBe(0);
  expect(reads()).toEqual([1, 3, 0]);
});

test("when all ignore ranges, a part is refused without asking each time", async () => {
  for (const registry of [first, second, upstream]) registry.fault = () => ({ kind: "ignore-range" });
  const store = open();
  for (let i = 0; i < 3; i++)
    await expect(read(store, { partsOnly: true })).rejects.toMatchObject({ code: "unsupported" });
  expect(reads()).toEqual([1, 1, 1]);
  expect(Buffer.compare(await read(store), PIECE)).toBe(0);
});

test("only who may resolve is asked for tags, and only who may be pushed to is written to", async () => {
  configure(
    `[host."${first.url}"]\ncapabilities = ["pull"]\n[host."${second.url}"]\ncapabilities = ["resolve"]`,
  );
  const store = open();
  await store.resolve("t");
  expect([first, second, upstream].map(({ requests }) => requests.length)).toEqual([0, 1, 0]);
  await open().fetch(IMAGE);
  expect(first.requests).toHaveLength(1);
  await read();
  expect(reads()).toEqual([1, 0, 0]);
  const other = sampleBytes(1000, 7);
  await store.push(descriptorOf(other), streamOf(other));
  expect(upstream.requests.some(({ method }) => method === "PUT")).toBe(true);
  expect([first, second].flatMap(({ requests }) => requests).map(({ method }) => method)).not.toContain(
    "PUT",
  );
});

test("a manifest comes from the next mirror when the first one fails", async () => {
  first.fault = () => undefined;
  await first[Symbol.asyncDispose]();
  expect(await open().resolve("t")).toEqual(IMAGE);
  expect(second.requests).toHaveLength(1);
});

test("a mirror sees its own headers, and neither the registry's credentials nor another place's headers", async () => {
  configure(`
    [host."${first.url}"]
      [host."${first.url}".header]
        x-key = "for the first"
    [host."${second.url}"]
  `);
  const store = open({ credentials: { username: "me", password: "geheim" } });
  first.fault = () => ({ kind: "status", status: 401 });
  second.fault = () => ({ kind: "status", status: 401 });
  upstream.fault = ({ authorized }) => (authorized ? undefined : { kind: "status", status: 401 });
  expect(Buffer.compare(await read(store), PIECE)).toBe(0);
  expect(upstream.reads.map(({ authorized }) => authorized)).toEqual([false, true]);
  expect([...first.reads, ...second.reads].some(({ authorized }) => authorized)).toBe(false);
  expect(first.reads[0]?.headers["x-key"]).toBe("for the first");
  expect([...second.reads, ...upstream.reads].some(({ headers }) => "x-key" in headers)).toBe(false);
});

test("a mirror's headers do not follow a redirect to another host", async () => {
  configure(`[host."${first.url}"]\n[host."${first.url}".header]\nx-key = "for the first"`);
  first.fault = () => ({ kind: "redirect", to: `${second.url}/v2/a/b/blobs/${BLOB.digest}` });
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
  expect(second.reads).toHaveLength(1);
  expect("x-key" in (second.reads[0]?.headers ?? {})).toBe(false);
});

test("a mirror that hangs is overtaken by the next one, whole blobs included", async () => {
  first.fault = () => ({ kind: "hang", after: 100_000 });
  const body = await open().fetch(BLOB);
  expect(Buffer.compare(await readAll(body, 1e6, "a test blob"), BYTES)).toBe(0);
  expect(second.reads[0]?.range).toEqual({ start: 100_000, end: BYTES.byteLength });
});

test("without a configuration for it, a registry has no mirrors", async () => {
  rmSync(join(directory, "hosts"), { recursive: true });
  await read();
  expect(reads()).toEqual([0, 0, 1]);
});
