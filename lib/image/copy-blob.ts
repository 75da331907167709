/**
 * Copies one blob from a store to another, unless the target has it or can get it from its own registry.
 *
 * @module
 */
import { mayPass } from "../base/error.ts";
import type { Task } from "../base/progress.ts";
import type { BlobStore, Fetcher } from "../content/content.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { RegistryStore } from "../registry/store.ts";

/** A transfer that broke off is made again from its start, this often in all. */
const ATTEMPTS = 3;

export interface CopyBlobOptions {
  readonly signal: AbortSignal;
  /** Is told of bytes, and finished. */
  readonly task?: Task;
}

/** @returns "mounted" when the target's registry had it in the source's repository */
export async function copyBlob(
  blob: Descriptor,
  from: Fetcher,
  to: BlobStore,
  { signal, task }: CopyBlobOptions,
): Promise<"present" | "mounted" | "sent"> {
  signal.throwIfAborted();
  if (await to.has(blob, { signal })) {
    task?.finish("already there");
    return "present";
  }
  if (await mounted(blob, from, to, signal)) {
    task?.finish("mounted");
    return "mounted";
  }
  await send(blob, from, to, signal, (count) => task?.advance(count));
  task?.finish();
  return "sent";
}

/** Within one registry, blobs need not travel. */
async function mounted(
  blob: Descriptor,
  from: Fetcher,
  to: BlobStore,
  signal: AbortSignal,
): Promise<boolean> {
  if (!(from instanceof RegistryStore) || !(to instanceof RegistryStore)) return false;
  if (from.registry !== to.registry || from.repository === to.repository) return false;
  return to.mount(blob, from.repository, { signal });
}

async function send(
  blob: Descriptor,
  from: Fetcher,
  to: BlobStore,
  signal: AbortSignal,
  advance: (count: number) => void,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    let sent = 0;
    const count = (bytes: number): void => {
      sent += bytes;
      advance(bytes);
    };
    try {
      await to.push(blob, counted(await from.fetch(blob, { signal }), count), { signal });
      return;
    } catch (error) {
      if (attempt === ATTEMPTS || !mayPass(error)) throw error;
      advance(-sent);
    }
  }
}

function counted(
  body: ReadableStream<Uint8Array>,
  count: (bytes: number) => void,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        count(value.byteLength);
        controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
