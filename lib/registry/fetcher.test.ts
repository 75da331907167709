/** Blobs read from a registry that breaks off, answers late, ignores ranges or lies. */
import { beforeEach, describe, expect, test } from "vitest";
import { type FaultRegistry, serveBlobFaultily } from "../../tests/support/fault-registry.ts";
import type { ByteRange } from "../content/content.ts";
import { descriptorOf, sampleBytes } from "../content/contract.test-support.ts";
import { readAll, streamOf } from "../content/verified.ts";
import type { RegistryOptions } from "./client.ts";
import { RegistryStore } from "./store.ts";

const BYTES = sampleBytes(300_000);
const BLOB = descriptorOf(BYTES);
const RANGE: ByteRange = { start: 1000, end: 201_000 };
const PIECE = BYTES.subarray(RANGE.start, RANGE.end);

let registry: FaultRegistry;
/** Waits that were asked for, in milliseconds; none is waited for. */
let waits: number[];

beforeEach(async () => {
  registry = await serveBlobFaultily(BYTES);
  waits = [];
});

function open(options: RegistryOptions = {}): RegistryStore {
  const sleep = async (milliseconds: number): Promise<void> => void waits.push(milliseconds);
  return new RegistryStore(`${registry.host}/a/b`, {
    credentials: async () => undefined,
    retry: { sleep, random: () => 1 },
    ...options,
  });
}

async function read(range?: ByteRange, options: RegistryOptions = {}): Promise<Uint8Array> {
  const body = await open(options).fetch(BLOB, range === undefined ? {} : { range });
  return readAll(body, 1e6, "a test blob");
}

const WAYS = [
  ["a range", RANGE, PIECE],
  ["a whole blob", undefined, BYTES],
] as const;

describe.each(WAYS)("RegistryStore.fetch() of %s", (_way, range, wanted) => {
  test("goes on where the body broke off", async () => {
    registry.fault = () => (registry.reads.length === 1 ? { kind: "reset", after: 70_000 } : undefined);
    expect(Buffer.compare(await read(range), wanted)).toBe(0);
    expect(registry.reads).toHaveLength(2);
    // How much arrives before a reset is the network's choice.
    expect(registry.reads[1]?.range?.start ?? 0).toBeLessThanOrEqual((range?.start ?? 0) + 70_000);
  });

  test("goes on after silence in the body", async () => {
    registry.fault = () => (registry.reads.length === 1 ? { kind: "hang", after: 70_000 } : undefined);
    expect(Buffer.compare(await read(range, { idleTimeout: 100 }), wanted)).toBe(0);
    expect(registry.reads[1]?.range?.start).toBe((range?.start ?? 0) + 70_000);
  });

  test("asks again when there is no answer", async () => {
    registry.fault = ({ attempt }) => (attempt === 1 ? { kind: "hang" } : undefined);
    expect(Buffer.compare(await read(range, { answerTimeout: 100 }), wanted)).toBe(0);
    expect(registry.reads).toHaveLength(2);
  });

  test("survives a registry that ignores ranges and breaks off", async () => {
    registry.fault = () => ({ kind: "ignore-range" });
    expect(Buffer.compare(await read(range), wanted)).toBe(0);
    registry.clear();
    registry.fault = () =>
      registry.reads.length === 1 ? { kind: "reset", after: 70_000 } : { kind: "ignore-range" };
    expect(Buffer.compare(await read(range), wanted)).toBe(0);
    expect(registry.reads).toHaveLength(2);
  });

  test.each([429, 500, 502, 503, 504])("asks again after status %i", async (status) => {
    registry.fault = ({ attempt }) => (attempt < 4 ? { kind: "status", status } : undefined);
    expect(Buffer.compare(await read(range), wanted)).toBe(0);
    expect(waits).toEqual([200, 600, 1800]);
  });

  test.each([
    [429, "unavailable", 5],
    [500, "unavailable", 5],
    [404, "not_found", 1],
    [403, "denied", 1],
    [416, "corrupt", 1],
    [418, "internal", 1],
  ])("fails after status %i with %s", async (status, code, reads) => {
    registry.fault = () => ({ kind: "status", status });
    await expect(read(range)).rejects.toMatchObject({ code });
    expect(registry.reads).toHaveLength(reads);
  });

  test("fails with unavailable, naming what was read, when nothing helps", async () => {
    registry.fault = () => ({ kind: "reset" });
    const failure = read(range);
    await expect(failure).rejects.toMatchObject({ code: "unavailable" });
    await expect(failure).rejects.toThrow(`Cannot read "${registry.host}/a/b@${BLOB.digest}": `);
    expect(registry.reads).toHaveLength(5);
  });

  test("stops at once when it is cancelled", async () => {
    const controller = new AbortController();
    registry.fault = () => ({ kind: "hang", after: 70_000 });
    const options = { signal: controller.signal, ...(range === undefined ? {} : { range }) };
    const reader = (await open().fetch(BLOB, options)).getReader();
    const drained = (async () => {
      while (!(await reader.read()).done);
    })();
    controller.abort();
    await expect(drained).rejects.toMatchObject({ code: "cancelled" });
    expect(registry.reads).toHaveLength(1);
  });

  test("stops while it waits for the next attempt", async () => {
    const controller = new AbortController();
    registry.fault = () => ({ kind: "status", status: 503, retryAfter: 50 });
    const options = { signal: controller.signal, ...(range === undefined ? {} : { range }) };
    const store = open({ retry: { maxRetryAfter: 60_000 } });
    const failure = expect(store.fetch(BLOB, options)).rejects.toMatchObject({ code: "cancelled" });
    while (registry.reads.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort();
    await failure;
  });
});

test("RegistryStore.fetch() survives more breaks than attempts while a large blob makes progress", async () => {
  const large = sampleBytes(9 * 2 ** 20, 5);
  const descriptor = descriptorOf(large);
  await open().push(descriptor, streamOf(large));
  registry.fault = () => ({ kind: "hang", after: 1.2e6 });
  const body = await open({ idleTimeout: 50 }).fetch(descriptor);
  expect(Buffer.compare(await readAll(body, 1e8, "a test blob"), large)).toBe(0);
  expect(registry.reads.length).toBeGreaterThan(5);
});

test("RegistryStore.fetch() waits as long as the registry asks, and gives up when that is too long", async () => {
  registry.fault = ({ attempt }) =>
    attempt === 1 ? { kind: "status", status: 429, retryAfter: 7 } : undefined;
  await read(RANGE);
  expect(waits).toEqual([7000]);
  registry.clear();
  registry.fault = () => ({ kind: "status", status: 429, retryAfter: 3600 });
  await expect(read(RANGE)).rejects.toMatchObject({ code: "unavailable", retryAfter: 3600 });
  expect(registry.reads).toHaveLength(1);
});

test("RegistryStore.fetch() refuses a whole blob that is announced shorter than it must be", async () => {
  registry.fault = () => ({ kind: "short", missing: 150_000 });
  await expect(read()).rejects.toMatchObject({ code: "corrupt" });
  expect(registry.reads).toHaveLength(1);
});

test("RegistryStore.fetch() asks for the rest of a range that came short, and gives up in the end", async () => {
  registry.fault = () => (registry.reads.length === 1 ? { kind: "short", missing: 50_000 } : undefined);
  expect(Buffer.compare(await read(RANGE), PIECE)).toBe(0);
  expect(registry.reads[1]?.range).toEqual({ start: RANGE.end - 50_000, end: RANGE.end });
  registry.clear();
  registry.fault = () => ({ kind: "short", missing: 50_000 });
  await expect(read(RANGE)).rejects.toMatchObject({ code: "unavailable" });
  expect(registry.reads).toHaveLength(5);
});

test("RegistryStore.fetch() refuses a whole blob with a flipped bit, at its end", async () => {
  registry.fault = () => ({ kind: "flip", at: 123_456 });
  const body = await open().fetch(BLOB);
  await expect(readAll(body, 1e6, "a test blob")).rejects.toMatchObject({ code: "corrupt" });
});

test("RegistryStore.fetch() stops reading a blob that was sent in spite of the range", async () => {
  registry.fault = () => ({ kind: "ignore-range" });
  let bytes = 0;
  const observer = {
    bytes: (count: number) => {
      bytes += count;
    },
  };
  const got = await read({ start: 10, end: 20 }, { observer });
  expect(Buffer.compare(got, BYTES.subarray(10, 20))).toBe(0);
  expect(bytes).toBeLessThanOrEqual(BYTES.byteLength);
});
