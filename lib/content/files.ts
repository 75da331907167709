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

/** Bytes a read: large enough that the thread pool's round trip does not count. */
const READ_SIZE = 512 * 1024;

export interface StreamOptions {
  readonly signal?: AbortSignal;
  /** Close the file when the stream ends, breaks or is left. */
  readonly close?: boolean;
}

/** Bytes [start, end) of an open file. */
export function streamRange(
  file: FileHandle,
  range: ByteRange,
  path: string,
  { signal, close }: StreamOptions = {},
): ReadableStream<Uint8Array> {
  let at = range.start;
  const end = async (): Promise<void> => {
    if (close === true) await file.close();
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (at >= range.end) {
          await end();
          controller.close();
          return;
        }
        try {
          signal?.throwIfAborted();
          const buffer = new Uint8Array(Math.min(READ_SIZE, range.end - at));
          const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, at);
          if (bytesRead === 0) throw corrupt(`Cannot read "${path}": it was cut short while it was read`);
          at += bytesRead;
          controller.enqueue(buffer.subarray(0, bytesRead));
        } catch (error) {
          await end().catch(() => {});
          throw toNydusError(error, `read "${path}"`);
        }
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
}

/** Writes a file under a temporary name in the same directory, syncs it, then gives it its name. */
export async function writeFileAtomically(
  path: string,
  body: AsyncIterable<Uint8Array> | Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.partial`);
  try {
    const file = await open(temporary, "wx", 0o644);
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
