/**
 * Cuts a file's bytes into chunks of one size, the last one short.
 *
 * @module
 */
import { NydusError } from "../base/error.ts";

/**
 * A chunk that arrives in one piece is a view of that piece; only others are copied together, each into memory of its
 * own: whoever compresses it may still be reading when the next one is cut. The source must therefore not reuse its
 * memory either.
 *
 * @param size of the file; the source must give exactly as many bytes
 */
export async function* chunksOf(
  source: AsyncIterable<Uint8Array>,
  size: number,
  chunkSize: number,
): AsyncGenerator<Uint8Array> {
  let done = 0;
  let chunk: Uint8Array | undefined;
  let filled = 0;
  for await (const piece of source) {
    for (let at = 0; at < piece.byteLength; ) {
      const wanted = Math.min(chunkSize, size - done);
      if (wanted === 0) throw sizeError(done, "more");
      const take = Math.min(wanted - filled, piece.byteLength - at);
      const part = piece.subarray(at, at + take);
      at += take;
      if (take === wanted) {
        yield part;
        done += wanted;
        continue;
      }
      chunk ??= new Uint8Array(wanted);
      chunk.set(part, filled);
      filled += take;
      if (filled < wanted) continue;
      yield chunk;
      done += wanted;
      chunk = undefined;
      filled = 0;
    }
  }
  if (done !== size) throw sizeError(done + filled, "only");
}

function sizeError(bytes: number, which: "more" | "only"): NydusError {
  const state = which === "more" ? `it goes on after ${bytes} bytes` : `it ends after ${bytes} bytes`;
  return new NydusError("corrupt", `Cannot read a file's data: ${state}`);
}
