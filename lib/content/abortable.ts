/** Streams that end at once when a signal fires, even while their source hangs. @module */

import { toNydusError } from "../base/error.ts";

export function abortable(
  body: ReadableStream<Uint8Array>,
  signal?: AbortSignal,
): ReadableStream<Uint8Array> {
  if (signal === undefined) return body;
  const reader = body.getReader();
  let fail: (error: unknown) => void = () => {};
  const abort = (): void => fail(toNydusError(signal.reason, "go on"));
  // Not a race with one promise for the signal: that promise would keep every piece that ever raced with it.
  const next = (): ReturnType<typeof reader.read> =>
    new Promise((resolve, reject) => {
      fail = reject;
      if (signal.aborted) abort();
      else reader.read().then(resolve, reject);
    });
  signal.addEventListener("abort", abort, { once: true });
  const done = (): void => signal.removeEventListener("abort", abort);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const piece = await next();
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
