/** Blobs read from a registry whose requests hang or crawl: asked again beside the first request, and not too often. */
import { beforeEach, expect, test } from "vitest";
import { type FaultRegistry, serveBlobFaultily } from "../../tests/support/fault-registry.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { readAll } from "../content/verified.ts";
import type { RegistryOptions } from "./client.ts";
import { HedgeBudget, Pace } from "./pace.ts";
import { RegistryStore } from "./store.ts";

const BYTES = sampleBytes(1_000_000);
const BLOB = descriptorOf(BYTES);
const RANGE = { start: 1000, end: 901_000 };
const PIECE = BYTES.subarray(RANGE.start, RANGE.end);
/** Far above what an answer takes here, far below every time limit of the transport. */
const PATIENCE = { least: 100, most: 400 };

let registry: FaultRegistry;

beforeEach(async () => {
  registry = await serveBlobFaultily(BYTES);
});

/** Without any retry: whatever comes right was asked for a second time beside the first. */
function open(options: RegistryOptions = {}): RegistryStore {
  return new RegistryStore(`${registry.host}/a/b`, {
    credentials: async () => undefined,
    patience: PATIENCE,
    retry: { attempts: 1 },
    ...options,
  });
}

async function read(store = open()): Promise<Uint8Array> {
  return readAll(await store.fetch(BLOB, { range: RANGE }), 2e6, "a test blob");
}

test("a request that gets no answer is asked again beside it", async () => {
  registry.fault = ({ attempt }) => (attempt === 1 ? { kind: "hang" } : undefined);
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
  expect(registry.reads.map(({ range }) => range)).toEqual([RANGE, RANGE]);
});

test("a body that stops goes on from there in a second request", async () => {
  registry.fault = () => (registry.reads.length === 1 ? { kind: "hang", after: 300_000 } : undefined);
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
  expect(registry.reads[1]?.range).toEqual({ start: RANGE.start + 300_000, end: RANGE.end });
});

test("a body that crawls is overtaken", async () => {
  registry.fault = () => (registry.reads.length === 1 ? { kind: "trickle", bytes: 10 } : undefined);
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
  expect(registry.reads.length).toBeLessThanOrEqual(3);
  expect(registry.reads[0]?.sent).toBeLessThan(10_000);
});

test("a registry that hangs for a while is asked until it answers", async () => {
  registry.fault = ({ attempt }) => (attempt < 5 ? { kind: "hang" } : undefined);
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
  expect(registry.reads).toHaveLength(5);
});

test("a whole blob is hedged too, and still verified", async () => {
  registry.fault = () => (registry.reads.length === 1 ? { kind: "hang", after: 300_000 } : undefined);
  const body = await open().fetch(BLOB);
  expect(Buffer.compare(await readAll(body, 2e6, "a test blob"), BYTES)).toBe(0);
});

test("a request that fails while its second is under way costs nothing", async () => {
  registry.fault = async ({ attempt }) => {
    if (attempt > 1) return undefined;
    while (registry.reads.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    return { kind: "reset" };
  };
  expect(Buffer.compare(await read(), PIECE)).toBe(0);
});

test("a registry that never answers is given up at the limit, with the reason", async () => {
  registry.fault = () => ({ kind: "hang" });
  const failure = read(open({ retry: { attempts: 100, limit: 700 } }));
  await expect(failure).rejects.toMatchObject({ code: "unavailable" });
  await expect(failure).rejects.toThrow(`nothing came from ${registry.host} for 0.7 s`);
  expect(registry.reads.length).toBeGreaterThan(1);
});

test("many hanging requests are not all asked again at once", async () => {
  registry.fault = () => ({ kind: "hang" });
  const store = open({ retry: { attempts: 1, limit: 500 } });
  const reads = Array.from({ length: 30 }, () => read(store).catch(() => undefined));
  await Promise.all(reads);
  // A burst of eight, a tenth of thirty, and one a second, of which less than two went by.
  expect(registry.reads.length).toBeGreaterThan(30);
  expect(registry.reads.length).toBeLessThanOrEqual(30 + 8 + 3 + 2);
});

test("HedgeBudget allows a burst, then a tenth of the requests and one a second", () => {
  let now = 0;
  const budget = new HedgeBudget(() => now);
  const spent = (): number => {
    let count = 0;
    while (budget.spend()) count++;
    return count;
  };
  expect(spent()).toBe(8);
  for (let i = 0; i < 31; i++) budget.earn();
  expect(spent()).toBe(3);
  now = 2500;
  expect(spent()).toBe(2);
  now = 1e9;
  expect(spent()).toBe(8);
});

test("Pace finds unusual what takes four times as long as nearly all answers", () => {
  const pace = new Pace();
  expect(pace.patience).toBe(2000);
  for (let i = 0; i < 20; i++) pace.answered(10);
  expect(pace.patience).toBe(1000);
  for (let i = 0; i < 32; i++) pace.answered(600);
  expect(pace.patience).toBe(2400);
  for (let i = 0; i < 32; i++) pace.answered(60_000);
  expect(pace.patience).toBe(8000);
});

test("Pace lets bytes take eight times as long as usual, within bounds", () => {
  const pace = new Pace();
  expect(pace.allowance(4096)).toBe(1000);
  pace.moved(800 * 1024, 1000);
  expect(pace.allowance(100 * 1024)).toBe(1000);
  pace.moved(10, 1);
  expect(pace.allowance(100 * 1024)).toBe(1000);
  for (let i = 0; i < 100; i++) pace.moved(1e9, 1000);
  expect(pace.allowance(256 * 1024)).toBe(1000);
});
