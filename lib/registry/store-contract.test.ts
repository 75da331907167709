/** A repository of a registry keeps the promises of every store: against the embedded registry, over a real socket. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  descriptorOf,
  type StoreUnderTest,
  sampleBytes,
  testBlobStore,
} from "../content/contract.test-support.ts";
import { streamOf } from "../content/verified.ts";
import { serveRegistry } from "./server.ts";
import { RegistryStore } from "./store.ts";

interface Served extends StoreUnderTest {
  readonly store: RegistryStore;
  readonly host: string;
}

async function open(): Promise<Served> {
  const root = await mkdtemp(join(tmpdir(), "nt-store-"));
  const registry = await serveRegistry({ root });
  const store = new RegistryStore(`${registry.host}/some/image`, { credentials: async () => undefined });
  return {
    store,
    host: registry.host,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    },
  };
}

testBlobStore("RegistryStore", open);

test("RegistryStore.mount() takes a blob from another repository", async () => {
  await using served = await open();
  const bytes = sampleBytes(1000);
  const blob = descriptorOf(bytes);
  const other = new RegistryStore(`${served.host}/other`, { credentials: async () => undefined });
  expect(await other.mount(blob, "some/image")).toBe(false);
  await served.store.push(blob, streamOf(bytes));
  expect(await other.mount(blob, "some/image")).toBe(true);
});
