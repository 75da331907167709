/** Streams that end at once when a signal fires, even while their source hangs. @module */

import { toNydusError } from "../base/error.ts";

export function abortable(
  body: ReadableStream<Uint8Array>,
  signal?: AbortSignal,
): ReadableStream<Uint8Array> {
  if (signal === undefined) return body;
  const reader = body.getReader();
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(toNydusError(signal.reason, "go on"));
  });
  aborted.catch(() => {});
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  const done = (): void => signal.removeEventListener("abort", abort);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const piece = await Promise.race([aborted, reader.read()]);
          if (!piece.done) return controller.enqueue(piece.value);
          done();
          controller.close();
        } catch (error) {
          done();
          reader.cancel(error).catch(() => {});
          throw error;
        }
      },
      async cancel(reason) {
        done();
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
