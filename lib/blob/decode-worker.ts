/**
 * A decoding thread: expands chunks and checks their digests, a batch at a time.
 *
 * @module
 */
import { parentPort } from "node:worker_threads";
import { decompressChunk } from "../base/compression.ts";
import { type ChunkDigester, type ChunkHasher, chunkHasher, sameBytes } from "../base/digest.ts";
import { release } from "../base/memory.ts";
import { type DecodedJob, type DecodeJob, total } from "./decode-messages.ts";

const hashers = new Map<ChunkDigester, ChunkHasher>();

async function hasherOf(digester: ChunkDigester): Promise<ChunkHasher> {
  const hasher = hashers.get(digester) ?? (await chunkHasher(digester));
  hashers.set(digester, hasher);
  return hasher;
}

async function decode(request: DecodeJob): Promise<void> {
  const { job, compressor, slab, storedLengths, lengths, compressed, digests } = request;
  const hasher = await hasherOf(request.digester);
  const bytes = new Uint8Array(slab);
  const good = new Uint8Array(lengths.length);
  let [from, to] = [0, total(storedLengths)];
  for (const [i, length] of lengths.entries()) {
    const end = from + (storedLengths[i] ?? 0);
    const digest = digests.subarray(i * 32, i * 32 + 32);
    try {
      const used = compressed[i] === 1 ? compressor : "none";
      const chunk = decompressChunk(used, bytes.subarray(from, end), length);
      if (sameBytes(hasher.digest(chunk), digest)) good[i] = 1;
      bytes.set(chunk, to);
      if (used !== "none") release(chunk);
    } catch {
      // The owner looks again at what is not good, and says what is wrong with it.
    }
    from = end;
    to += length;
  }
  parentPort?.postMessage({ job, good } satisfies DecodedJob);
}

parentPort?.on("message", (request: DecodeJob) => void decode(request));
