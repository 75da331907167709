import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { tarOf } from "../../tests/support/tar-builder.ts";
import { streamOf } from "../content/verified.ts";
import type { PackRequest } from "./packing-thread.ts";
import { PackingThreads } from "./packing-threads.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "packing-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function requestFor(name: string, rest: Partial<PackRequest> = {}): PackRequest {
  const data = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * i * name.length) % 251));
  return {
    compressor: "zstd",
    digester: "sha256",
    chunkSize: 2 ** 16,
    path: join(directory, name),
    what: `layer ${name}`,
    open: async () => streamOf(tarOf([{ path: name, type: "file", data }])),
    ...rest,
  };
}

/** Gives some bytes, then nothing for ever; says when it was given up. */
function endless(): { open: PackRequest["open"]; cancelled: Promise<unknown> } {
  const { promise, resolve } = Promise.withResolvers();
  const start = tarOf([{ path: "a", type: "file", data: Buffer.alloc(5000) }]).subarray(0, 2000);
  const open = async (): Promise<ReadableStream<Uint8Array>> =>
    new ReadableStream({ start: (controller) => controller.enqueue(start), cancel: resolve });
  return { open, cancelled: promise };
}

test("PackingThreads packs more layers than it has threads, and says how far each is", async () => {
  await using threads = new PackingThreads(2);
  const names = ["a", "bb", "ccc", "dddd", "eeeee"];
  const progress = new Map<string, number>();
  const layers = await Promise.all(
    names.map((name) =>
      threads.pack(
        requestFor(name, {
          onProgress: (bytes) => void progress.set(name, (progress.get(name) ?? 0) + bytes),
        }),
      ),
    ),
  );
  expect(layers.map(({ tree }) => [...tree.entries.keys()])).toEqual(names.map((name) => [name]));
  expect([...progress.values()]).toEqual(layers.map(({ tarSize }) => tarSize));
});

test("PackingThreads keeps the identity of a blob and its chunks across threads", async () => {
  await using threads = new PackingThreads(1);
  const { tree, blob, file } = await threads.pack(requestFor("a"));
  const [node] = tree.entries.values();
  if (node?.kind !== "file") throw new Error("no file");
  expect(node.chunks.length).toBe(4);
  expect(node.chunks.every((chunk) => chunk.blob === blob)).toBe(true);
  expect(blob.id).toBe(file.info?.id);
});

test("PackingThreads fails one layer without harming another on the same thread", async () => {
  await using threads = new PackingThreads(2);
  const broken = requestFor("bad", { open: async () => streamOf(Buffer.alloc(512, "x")) });
  const results = await Promise.allSettled([threads.pack(broken), threads.pack(requestFor("good"))]);
  expect(results[0]).toMatchObject({ status: "rejected", reason: { code: "corrupt" } });
  expect(results[1]?.status).toBe("fulfilled");
});

test("PackingThreads passes on why a source failed", async () => {
  await using threads = new PackingThreads(1);
  const open = async (): Promise<ReadableStream<Uint8Array>> => {
    throw Object.assign(new Error("no route"), { code: "ECONNRESET" });
  };
  await expect(threads.pack(requestFor("a", { open }))).rejects.toMatchObject({
    code: "unavailable",
    message: "Cannot read the layer: no route",
  });
});

test("PackingThreads gives up a source that hangs when it is told to, and works on", async () => {
  await using threads = new PackingThreads(1);
  const stop = new AbortController();
  const { open, cancelled } = endless();
  const packing = threads.pack(
    requestFor("a", { open, signal: stop.signal, onProgress: () => stop.abort() }),
  );
  await expect(packing).rejects.toMatchObject({ code: "cancelled" });
  await cancelled;
  await expect(threads.pack(requestFor("b"))).resolves.toMatchObject({ entries: 1 });
});

test("PackingThreads does not start what was cancelled before its turn", async () => {
  await using threads = new PackingThreads(1);
  let opened = false;
  const open = async (): Promise<ReadableStream<Uint8Array>> => {
    opened = true;
    return streamOf(new Uint8Array());
  };
  const signal = AbortSignal.abort();
  await expect(threads.pack(requestFor("a", { open, signal }))).rejects.toMatchObject({ code: "cancelled" });
  expect(opened).toBe(false);
});
