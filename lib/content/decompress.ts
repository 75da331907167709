/**
 * A layer's tar out of whatever it came in. The first bytes decide, not the media type: the two disagree in practice.
 *
 * @module
 */
import { Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { corrupt, NydusError } from "../base/error.ts";
import { ZstdFrames } from "./zstd-frames.ts";

/** Fewer, larger pieces: each costs a trip to the thread pool. Measured: 64 KiB takes twice as long. */
const PIECE = 512 * 1024;

export type LayerKind = "gzip" | "zstd" | "xz" | "bzip2" | "tar";

const MAGIC_SIZE = 6;

/** No tar starts like any of these: its first bytes are a name, or zeros. */
function kindOf(head: Uint8Array): LayerKind {
  const starts = (...bytes: number[]): boolean => bytes.every((byte, i) => head[i] === byte);
  if (starts(0x1f, 0x8b)) return "gzip";
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return "zstd";
  // A skippable frame may come first.
  if (head.byteLength >= 4 && starts((head[0] ?? 0) & 0x5f, 0x2a, 0x4d, 0x18) && (head[0] ?? 0) >= 0x50)
    return "zstd";
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return "xz";
  if (starts(0x42, 0x5a, 0x68)) return "bzip2";
  return "tar";
}

/**
 * Pieces of the tar, each in memory that is not used again. However much they expand, no more than a few pieces exist
 * at once.
 *
 * @param what the layer is called in messages
 */
export async function* decompressed(
  source: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<Uint8Array> {
  const { kind, whole } = await sniffed(source);
  try {
    if (kind === "tar") yield* whole;
    else if (kind === "gzip") yield* through(createGunzip({ chunkSize: PIECE }), whole, what);
    else if (kind === "zstd")
      yield* through(createZstdDecompress({ chunkSize: PIECE }), wholeFrames(whole, what), what);
    else
      throw new NydusError(
        "unsupported",
        `Cannot read ${what}: it is compressed by ${kind}, not gzip or zstd`,
      );
  } finally {
    await whole.return();
  }
}

/** A layer from its first byte on. Whoever does not read it to its end ends it by `return`. */
export interface WholeLayer extends AsyncIterableIterator<Uint8Array> {
  return(): Promise<IteratorResult<Uint8Array>>;
}

/** What a layer is compressed by, and all of it. */
export async function sniffed(
  source: AsyncIterable<Uint8Array>,
): Promise<{ kind: LayerKind; whole: WholeLayer }> {
  const pieces = source[Symbol.asyncIterator]();
  const head = await readHead(pieces);
  return { kind: kindOf(head), whole: withHead(head, pieces) };
}

async function readHead(pieces: AsyncIterator<Uint8Array>): Promise<Uint8Array> {
  let head: Uint8Array = new Uint8Array(0);
  while (head.byteLength < MAGIC_SIZE) {
    const { done, value } = await pieces.next();
    if (done) break;
    head = head.byteLength === 0 ? value : Buffer.concat([head, value]);
  }
  return head;
}

/** No generator: one that has not begun would not end `pieces` when it is ended. */
function withHead(head: Uint8Array, pieces: AsyncIterator<Uint8Array>): WholeLayer {
  let first = head.byteLength === 0 ? undefined : head;
  return {
    async next() {
      const value = first;
      first = undefined;
      return value === undefined ? await pieces.next() : { done: false, value };
    },
    async return() {
      await pieces.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** The decompressor would take a cut stream as a short one. */
async function* wholeFrames(source: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const frames = new ZstdFrames();
  for await (const piece of source) {
    frames.push(piece);
    yield piece;
  }
  if (!frames.complete) throw corrupt(`Cannot decompress ${what}: unexpected end of file`);
}

async function* through(
  transform: Transform,
  source: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<Uint8Array> {
  const input = Readable.from(source, { objectMode: false, highWaterMark: PIECE });
  input.once("error", (error) => transform.destroy(error));
  input.pipe(transform);
  try {
    for await (const piece of transform) yield piece;
  } catch (error) {
    if (error instanceof NydusError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw corrupt(`Cannot decompress ${what}: ${reason}`, { cause: error });
  } finally {
    input.destroy();
    transform.destroy();
  }
}
