/**
 * Looks now and then at what may leave the cache. containerd asks for it only when it has removed something, and then
 * the time of what it removed has not come.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../base/log.ts";

/** Milliseconds between two looks, whatever the grace time is. */
const [SHORTEST, LONGEST] = [1000, 600_000];

export function keepCollecting(
  snapshotter: { collect(): Promise<void> },
  grace: number,
  log: Logger,
): Disposable {
  const ending = new AbortController();
  const pause = Math.min(Math.max(grace / 2, SHORTEST), LONGEST);
  void repeat(snapshotter, pause, ending.signal, log);
  return { [Symbol.dispose]: () => ending.abort() };
}

async function repeat(
  snapshotter: { collect(): Promise<void> },
  pause: number,
  signal: AbortSignal,
  log: Logger,
): Promise<void> {
  for (;;) {
    await sleep(pause, undefined, { signal, ref: false }).catch(() => {}); // aborted
    if (signal.aborted) return;
    try {
      await snapshotter.collect();
    } catch (error) {
      log.warn("cannot look after the cache", { error: String(error) });
    }
  }
}
