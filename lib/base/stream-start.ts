/**
 * The first bytes of what a compressed stream expands to. How much more comes behind them is not known beforehand: in
 * layers with a table of contents the headers of entries without data follow a file's data in one stream.
 *
 * @module
 */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { corrupt } from "./error.ts";
import { GZIP_TRAILER, gzipHeaderSize } from "./gzip.ts";
import { Inflater, MAX_MATCH } from "./inflate.ts";

export type StreamFormat = "gzip" | "zstd";

/** zstd cannot be stopped: what follows is decoded too, up to here. Headers of a hundred thousand entries fit. */
const MOST_BEHIND = 64 * 2 ** 20;

/** @returns exactly `size` bytes. @throws corrupt when there are fewer, or the stream is none */
export function streamStart(format: StreamFormat, stored: Uint8Array, size: number): Uint8Array {
  return format === "gzip" ? gzipStart(stored, size) : zstdStart(stored, size);
}

/** Most streams end here, and the runtime's decoder takes a fifth of the time for a small one; it cannot stop early. */
const LITTLE_BEHIND = 64 * 1024;

function gzipStart(stored: Uint8Array, size: number): Uint8Array {
  try {
    const out = gunzipSync(stored, { maxOutputLength: size + LITTLE_BEHIND });
    if (out.byteLength >= size) return out.subarray(0, size);
  } catch {
    // More behind it, or damaged: the other decoder tells.
  }
  return inflateMembers(stored, size);
}

function inflateMembers(stored: Uint8Array, size: number): Uint8Array {
  const inflater = new Inflater(new Uint8Array(size + MAX_MATCH), 0, size);
  return inflateOn(inflater, afterHeader(stored), size);
}

/**
 * Decodes with an inflater that has been set up, on into further gzip members if need be.
 *
 * @returns the `size` bytes behind where it stands. @throws corrupt
 */
export function inflateOn(inflater: Inflater, stored: Uint8Array, size: number): Uint8Array {
  const start = inflater.outPosition;
  const done = (): Uint8Array => inflater.out.subarray(start, start + size);
  let input = stored;
  inflater.feed(input, true);
  for (;;) {
    const step = inflater.step();
    if (step === "output") return done();
    if (step === "input") throw endsEarly();
    if (step !== "end") continue;
    if (inflater.outPosition >= start + size) return done();
    input = afterHeader(input.subarray(inflater.inPosition + GZIP_TRAILER));
    inflater.restart();
    inflater.feed(input, true);
  }
}

function afterHeader(bytes: Uint8Array): Uint8Array {
  const size = gzipHeaderSize(bytes);
  if (size === undefined) throw endsEarly();
  return bytes.subarray(size);
}

function endsEarly(): Error {
  return corrupt("Cannot inflate: unexpected end of file");
}

function zstdStart(stored: Uint8Array, size: number): Uint8Array {
  let out: Uint8Array;
  try {
    out = zstdDecompressSync(stored, { maxOutputLength: size + MOST_BEHIND });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw corrupt(`Cannot decompress a zstd stream of ${stored.byteLength} bytes: ${reason}`, { cause });
  }
  if (out.byteLength >= size) return out.subarray(0, size);
  throw corrupt(`Cannot decompress a zstd stream: it has ${out.byteLength} bytes instead of ${size} or more`);
}
