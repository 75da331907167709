/** Which of the two is asked for a blob, and what is said when neither has it. */
import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { NydusError } from "../base/error.ts";
import { ContainerdClient } from "../containerd/client.ts";
import { ContentStore } from "../containerd/content-store.ts";
import type { Fetcher } from "../content/content.ts";
import { MemoryStore } from "../content/memory.test-support.ts";
import { readAll, streamOf } from "../content/verified.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { LocalFirst } from "./local-first.ts";

const BYTES = new TextEncoder().encode("content");
const BLOB: Descriptor = { mediaType: "", digest: digestOf(BYTES), size: BYTES.byteLength };

/** A content store as its answers are, without a containerd. */
class FakeContent extends ContentStore {
  asked = 0;
  readonly #answer: () => NydusError | undefined;

  constructor(answer: () => NydusError | undefined) {
    super(new ContainerdClient({ address: "/nowhere", namespace: "n" }));
    this.#answer = answer;
  }

  override async fetch(): Promise<ReadableStream<Uint8Array>> {
    this.asked++;
    const error = this.#answer();
    if (error !== undefined) throw error;
    return streamOf(BYTES);
  }
}

const missing = (): NydusError => new NydusError("not_found", "Cannot read it: it is not there");
const away = (): NydusError => new NydusError("unavailable", "Cannot read it: nobody listens");

async function registryWith(...blobs: Uint8Array[]): Promise<Fetcher & { asked: number }> {
  const store = new MemoryStore();
  for (const bytes of blobs)
    await store.push({ mediaType: "", digest: digestOf(bytes), size: bytes.byteLength }, streamOf(bytes));
  const counted = {
    asked: 0,
    fetch: (...words: Parameters<Fetcher["fetch"]>) => {
      counted.asked++;
      return store.fetch(...words);
    },
  };
  return counted;
}

const read = async (store: LocalFirst, options = {}): Promise<string> =>
  Buffer.from(await readAll(await store.fetch(BLOB, options), 100, "it")).toString();

test("LocalFirst reads what is here, and asks the registry for damaged data", async () => {
  const [local, remote] = [new FakeContent(() => undefined), await registryWith(BYTES)];
  const store = new LocalFirst(local, remote);
  expect(await read(store)).toBe("content");
  expect([local.asked, remote.asked]).toEqual([1, 0]);
  expect(await read(store, { damaged: true, range: { start: 0, end: 7 } })).toBe("content");
  expect([local.asked, remote.asked]).toEqual([1, 1]);
});

test("LocalFirst looks once for what is not here", async () => {
  const [local, remote] = [new FakeContent(missing), await registryWith(BYTES)];
  const store = new LocalFirst(local, remote);
  for (let i = 0; i < 3; i++) expect(await read(store)).toBe("content");
  expect([local.asked, remote.asked]).toEqual([1, 3]);
});

test("LocalFirst waits for a containerd that is away, unless the registry has the blob", async () => {
  let rounds = 0;
  const local = new FakeContent(() => (++rounds < 3 ? away() : undefined));
  expect(await read(new LocalFirst(local, await registryWith()))).toBe("content");
  expect(local.asked).toBe(3);
  const other = new FakeContent(away);
  expect(await read(new LocalFirst(other, await registryWith(BYTES)))).toBe("content");
  expect(other.asked).toBe(1);
});

test("LocalFirst asks the registry whatever is wrong here", async () => {
  const broken = new FakeContent(() => new NydusError("usage", "Cannot: no such namespace"));
  expect(await read(new LocalFirst(broken, await registryWith(BYTES)))).toBe("content");
});

test("LocalFirst says where it looked", async () => {
  const store = new LocalFirst(new FakeContent(missing), await registryWith());
  await expect(store.fetch(BLOB)).rejects.toMatchObject({
    code: "not_found",
    message: "Cannot read it: it is not there, and not in the image's registry",
  });
  const refused: Fetcher = { fetch: () => Promise.reject(new NydusError("denied", "Cannot: log in")) };
  await expect(new LocalFirst(new FakeContent(missing), refused).fetch(BLOB)).rejects.toThrow("log in");
});

test("LocalFirst stops waiting when nobody wants the blob any more", async () => {
  const store = new LocalFirst(new FakeContent(away), await registryWith());
  const given = AbortSignal.timeout(50);
  await expect(store.fetch(BLOB, { signal: given })).rejects.toThrow();
});
