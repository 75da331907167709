/**
 * Compresses a layer's tar, the same bytes to the same bytes.
 *
 * @module
 */
import { Readable } from "node:stream";
import { createGzip } from "node:zlib";

/** What registries mostly hold; more costs several times as long for a few percent. */
const LEVEL = 6;
/** Fewer, larger pieces: each costs a trip to the thread pool. */
const PIECE = 512 * 1024;

export async function* gzipped(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const input = Readable.from(joined(source), { objectMode: false, highWaterMark: PIECE });
  const gzip = createGzip({ level: LEVEL, chunkSize: PIECE });
  input.once("error", (error) => gzip.destroy(error));
  input.pipe(gzip);
  try {
    for await (const piece of gzip) yield piece;
  } finally {
    input.destroy();
    gzip.destroy();
  }
}

/** A tar of small files is mostly headers, of 512 bytes each. */
async function* joined(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  let buffer = Buffer.allocUnsafe(PIECE);
  let filled = 0;
  for await (const piece of source) {
    for (let at = 0; at < piece.byteLength; ) {
      const part = piece.subarray(at, at + PIECE - filled);
      buffer.set(part, filled);
      filled += part.byteLength;
      at += part.byteLength;
      if (filled < PIECE) continue;
      yield buffer;
      // The last one is not used any more only when it has been compressed.
      buffer = Buffer.allocUnsafe(PIECE);
      filled = 0;
    }
  }
  if (filled > 0) yield buffer.subarray(0, filled);
}
