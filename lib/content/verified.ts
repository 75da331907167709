/**
 * Bytes are verified where they enter, inside the stream, so that no caller can forget. The failure arrives at the
 * end: commit (rename, mark ready) only after the stream has closed.
 *
 * @module
 */
import { Digester } from "../base/digest.ts";
import { corrupt } from "../base/error.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import type { ByteRange } from "./content.ts";

/**
 * Passes a body on if it has exactly the size and digest that were asked for. The last piece is held back until the
 * digest is known to be right, so a sink that counts bytes (an HTTP upload) cannot complete a wrong body either.
 */
export function verified(
  body: ReadableStream<Uint8Array>,
  want: Descriptor,
  from: string,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const digester = new Digester();
  let checked = false;
  const fail = async (state: string): Promise<never> => {
    const error = corrupt(`Cannot read "${want.digest}" from ${from}: ${state}`);
    await reader.cancel(error).catch(() => {});
    throw error;
  };
  const check = async (): Promise<void> => {
    if (checked) return;
    if (digester.size < want.size) await fail(`it ends after ${digester.size} of ${want.size} bytes`);
    const digest = digester.finish();
    if (digest !== want.digest) await fail(`its bytes have digest ${digest}`);
    checked = true;
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) {
          await check();
          controller.close();
          return;
        }
        if (value.byteLength === 0) return this.pull?.(controller);
        if (digester.size + value.byteLength > want.size)
          await fail(`it has more than the ${want.size} bytes announced`);
        digester.update(value);
        if (digester.size === want.size) await check();
        controller.enqueue(value);
      },
      async cancel(reason) {
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Collects a stream into memory; the cap is checked before more is kept. */
export async function readAll(
  body: ReadableStream<Uint8Array>,
  limit: number,
  where: string,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body) {
    size += part.byteLength;
    if (size > limit) throw corrupt(`Cannot read ${where}: it is larger than ${limit} bytes`);
    parts.push(part);
  }
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts, size);
}

export function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      if (bytes.byteLength > 0) controller.enqueue(bytes);
      controller.close();
    },
  });
}

/** @throws corrupt unless the range lies within a blob of `size` bytes */
export function checkRange(range: ByteRange, size: number, digest: string, from: string): void {
  const { start, end } = range;
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end <= size)
    return;
  throw corrupt(
    `Cannot read bytes ${start} to ${end} of "${digest}" from ${from}: the blob has ${size} bytes`,
  );
}
