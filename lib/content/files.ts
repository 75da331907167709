/**
 * Files of a store: streamed out by range, and written so that a name only ever stands for complete, synced bytes.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { corrupt, toNydusError } from "../base/error.ts";
import { abortable } from "./abortable.ts";
import type { ByteRange } from "./content.ts";

/**
 * Bytes [start, end) of a file. Bun's own stream: it opens the file when it is read and closes it even if it is forgotten
 * half way, where a forgotten handle ends the process. It also takes half the time.
 */
export function streamFile(path: string, range: ByteRange, signal?: AbortSignal): ReadableStream<Uint8Array> {
  let left = range.end - range.start;
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          signal?.throwIfAborted();
          if (left === 0) return controller.close();
          reader ??= Bun.file(path).slice(range.start, range.end).stream().getReader();
          const { done, value } = await reader.read();
          if (done) throw corrupt(`Cannot read "${path}": it was cut short while it was read`);
          left -= value.byteLength;
          controller.enqueue(value);
        } catch (error) {
          await reader?.cancel().catch(() => {});
          throw toNydusError(error, `read "${path}"`);
        }
      },
      async cancel(reason) {
        await reader?.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Writes a file under a temporary name in the same directory, syncs it, then gives it its name. */
export async function writeFileAtomically(
  path: string,
  body: AsyncIterable<Uint8Array> | Uint8Array,
  options: { readonly signal?: AbortSignal | undefined; readonly mode?: number } = {},
): Promise<void> {
  const { signal, mode = 0o644 } = options;
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.partial`);
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await writeBody(file, body, signal);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    if (body instanceof ReadableStream && !body.locked) await body.cancel(error).catch(() => {});
    throw toNydusError(error, `write "${path}"`);
  }
}

async function writeBody(
  file: FileHandle,
  body: AsyncIterable<Uint8Array> | Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  const parts =
    body instanceof Uint8Array ? [body] : body instanceof ReadableStream ? abortable(body, signal) : body;
  for await (const part of parts) {
    let done = 0;
    while (done < part.byteLength) done += (await file.write(part, done)).bytesWritten;
  }
}

/** A rename is only durable once the directory is. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
