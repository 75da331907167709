/**
 * Random reads, evictions, kills and power cuts: whatever happens to the cache, a read gives the blob's content.
 */
import {
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { chunkHasher } from "../base/digest.ts";
import { Limiter } from "../base/limiter.ts";
import { quietLogger } from "../base/log.ts";
import { BlobCache } from "./cache.ts";
import { BlobReader } from "./reader.ts";
import { fetcherOf, type SampleBlob, sampleBlob } from "./sample-blob.test-support.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "nydus-model-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

type Step =
  | { readonly kind: "read"; readonly at: number; readonly length: number }
  | { readonly kind: "evict"; readonly group: number }
  | { readonly kind: "keep" | "close" | "kill" }
  /** The directory as it is now, or its claims with data of an earlier copy, or the reverse; with blocks lost. */
  | { readonly kind: "cut"; readonly mix: "now" | "old data" | "old claims"; readonly lost: readonly Lost[] };

interface Lost {
  readonly file: "data" | "claims";
  readonly sector: number;
  readonly how: "zeros" | "end";
}

const SECTOR = 512;
const CHUNKS = 60;
const SIZE = 20_000;

const lost = fc.record({
  file: fc.constantFrom("data" as const, "claims" as const),
  sector: fc.nat(2600),
  how: fc.constantFrom("zeros" as const, "zeros" as const, "end" as const),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      at: fc.nat(CHUNKS * SIZE),
      length: fc.nat(300_000),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("evict" as const), group: fc.nat(5) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom("keep" as const, "close" as const, "kill" as const) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("cut" as const),
      mix: fc.constantFrom("now" as const, "old data" as const, "old claims" as const),
      lost: fc.array(lost, { maxLength: 4 }),
    }),
  },
);

/** One process after another on one cache. */
class Life {
  readonly #sample: SampleBlob;
  #directory = mkdtempSync(join(root, "c"));
  #earlier: string | undefined;
  #cache!: BlobCache;
  #reader!: BlobReader;

  constructor(sample: SampleBlob) {
    this.#sample = sample;
  }

  async start(): Promise<void> {
    this.#cache = new BlobCache(this.#directory);
    this.#reader = new BlobReader({
      blob: this.#cache.open(this.#sample.map),
      fetcher: fetcherOf(this.#sample.stored),
      hasher: await chunkHasher("sha256"),
      limiter: new Limiter(4),
      log: quietLogger,
      signal: new AbortController().signal,
    });
  }

  async step(step: Step): Promise<void> {
    if (step.kind === "read") await this.#read(step.at, step.length);
    else if (step.kind === "evict") this.#reader.blob.file.evict(step.group);
    else if (step.kind === "keep") this.#earlier = this.#copy(this.#directory);
    else {
      if (step.kind === "cut") this.#cut(step.mix, step.lost);
      else this.stop(step.kind);
      await this.start();
    }
  }

  async #read(at: number, length: number): Promise<void> {
    const end = Math.min(at + length, this.#sample.content.byteLength);
    if (end <= at) return;
    const into = Buffer.alloc(end - at, 0xee);
    await this.#reader.read(at, into);
    expect(into.equals(this.#sample.content.subarray(at, end))).toBe(true);
  }

  async readAll(): Promise<void> {
    await this.#read(0, this.#sample.content.byteLength);
  }

  stop(how: "close" | "kill"): void {
    // A killed process's descriptors are closed, and nothing else happens.
    if (how === "kill") closeSync(this.#reader.blob.fd);
    else this.#cache[Symbol.dispose]();
  }

  #copy(from: string): string {
    const to = mkdtempSync(join(root, "c"));
    cpSync(from, to, { recursive: true });
    return to;
  }

  #cut(mix: "now" | "old data" | "old claims", losses: readonly Lost[]): void {
    const copy = this.#copy(this.#directory);
    const blobs = (directory: string): string => join(directory, "blobs", this.#sample.map.blobId);
    const old = mix === "old data" ? "data" : "claims";
    if (mix !== "now" && this.#earlier !== undefined && existsSync(join(blobs(this.#earlier), old)))
      cpSync(join(blobs(this.#earlier), old), join(blobs(copy), old));
    for (const { file, sector, how } of losses) lose(join(blobs(copy), file), sector, how);
    this.stop("kill");
    this.#directory = copy;
  }
}

function lose(path: string, sector: number, how: "zeros" | "end"): void {
  const at = sector * SECTOR;
  if (at >= statSync(path).size) return;
  if (how === "end") return truncateSync(path, at + 17);
  const fd = openSync(path, "r+");
  writeSync(fd, Buffer.alloc(SECTOR), 0, SECTOR, at);
  closeSync(fd);
}

test("BlobCache never gives a wrong byte, whatever is read, evicted, killed, cut or lost", async () => {
  const sample = await sampleBlob({ chunks: CHUNKS, size: SIZE, compressor: "none" });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 25 }), async (steps) => {
      const life = new Life(sample);
      await life.start();
      for (const each of steps) await life.step(each);
      await life.readAll();
      life.stop("close");
      for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true });
    }),
    { numRuns: 60 },
  );
}, 60_000);
