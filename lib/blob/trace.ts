/**
 * A trace: which parts of an image's blobs something read, in the order of their first use. One machine records it,
 * another replays it, so it is checked like everything else that comes from outside. It names blobs and uncompressed
 * addresses, not files, so it also serves other images that share the blobs.
 *
 * @module
 */
import { corrupt } from "../base/error.ts";
import { type ChunkMap, chunkAt } from "../rafs/chunk-map.ts";
import { BLOCK } from "./ready-map.ts";

/** Bytes [offset, offset + length) of the blob's uncompressed space. */
export interface TracedRange {
  /** Hex. */
  readonly blobId: string;
  readonly offset: number;
  readonly length: number;
}

export type Trace = readonly TracedRange[];

const VERSION = 1;
/** Ranges, of 4 KiB at least: more than any image needs. */
const MAX_RANGES = 1_000_000;
/** Bytes of a trace file. */
export const MAX_TRACE = 64 << 20;

/** Blobs by number, then ranges as [blob, first 4 KiB block, blocks]: a tenth of the size of objects. */
interface TraceFile {
  readonly version: typeof VERSION;
  readonly blobs: readonly string[];
  readonly ranges: readonly (readonly [blob: number, block: number, blocks: number])[];
}

export function encodeTrace(trace: Trace): Uint8Array {
  const blobs = [...new Set(trace.map(({ blobId }) => blobId))];
  const numbers = new Map(blobs.map((blobId, i) => [blobId, i]));
  const ranges = trace.map(({ blobId, offset, length }) => {
    const block = Math.floor(offset / BLOCK);
    return [numbers.get(blobId) ?? 0, block, Math.ceil((offset + length) / BLOCK) - block] as const;
  });
  return Buffer.from(`${JSON.stringify({ version: VERSION, blobs, ranges } satisfies TraceFile)}\n`);
}

/** @throws corrupt */
export function parseTrace(bytes: Uint8Array): Trace {
  if (bytes.byteLength > MAX_TRACE) throw bad(`it has ${bytes.byteLength} bytes`);
  let file: Partial<TraceFile>;
  try {
    file = JSON.parse(Buffer.from(bytes).toString("utf8")) ?? {};
  } catch {
    throw bad("it is not JSON");
  }
  const { version, blobs, ranges } = file;
  if (version !== VERSION) throw bad("its version is not 1");
  if (!Array.isArray(blobs) || !blobs.every((id) => /^[0-9a-f]{64}$/.test(id)))
    throw bad("it names no blobs");
  if (!Array.isArray(ranges) || ranges.length > MAX_RANGES) throw bad("it has no ranges, or too many");
  return ranges.map((range, i) => {
    if (!Array.isArray(range) || range.length !== 3 || !range.every(isCount)) throw bad(`range ${i} is none`);
    const [blob, block, blocks] = range as [number, number, number];
    const blobId = blobs[blob];
    if (blobId === undefined || blocks === 0) throw bad(`range ${i} is none`);
    return { blobId, offset: block * BLOCK, length: blocks * BLOCK };
  });
}

/** At most 2^32 blocks: 16 TiB, as in the format. */
function isCount(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 2 ** 32;
}

function bad(state: string): Error {
  return corrupt(`Cannot use the trace: ${state}`);
}

/** A chunk of one of an image's blobs. */
export interface TracedChunk {
  readonly blob: number;
  readonly chunk: number;
}

/** The chunks that a trace touches, each once, in its order. What the image does not have is left out. */
export function tracedChunks(trace: Trace, maps: readonly ChunkMap[]): TracedChunk[] {
  const numbers = new Map(maps.map(({ blobId }, blob) => [blobId, blob]));
  const seen = maps.map(({ count }) => new Uint8Array(count));
  const chunks: TracedChunk[] = [];
  for (const { blobId, offset, length } of trace) {
    const blob = numbers.get(blobId);
    const map = blob === undefined ? undefined : maps[blob];
    const marks = blob === undefined ? undefined : seen[blob];
    if (blob === undefined || map === undefined || marks === undefined) continue;
    for (let chunk = Math.max(chunkAt(map, offset), 0); chunk < map.count; chunk++) {
      const start = map.uncompressedOffset[chunk] ?? 0;
      if (start >= offset + length) break;
      if (marks[chunk] === 1 || start + (map.uncompressedLength[chunk] ?? 0) <= offset) continue;
      marks[chunk] = 1;
      chunks.push({ blob, chunk });
    }
  }
  return chunks;
}
