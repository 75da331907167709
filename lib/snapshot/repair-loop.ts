/**
 * Looks after the mounts for as long as the snapshotter runs: soon again, then less and less often, while something is
 * missing, and now and then when all is well (the kernel, an operator or a dying process may take a mount away).
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";

export interface RepairTimes {
  /** Milliseconds before the first new attempt; doubled after each. */
  readonly first: number;
  /** The longest wait, also while nothing is missing. */
  readonly longest: number;
}

const TIMES: RepairTimes = { first: 1000, longest: 60_000 };

/** Both never throw, and tell whether nothing is missing. */
interface Repairable {
  /** The first time. */
  restore(): Promise<boolean>;
  repair(): Promise<boolean>;
}

export function keepRepairing(snapshotter: Repairable, times = TIMES): Disposable {
  const ending = new AbortController();
  void repeat(snapshotter, times, ending.signal);
  return { [Symbol.dispose]: () => ending.abort() };
}

async function repeat(
  snapshotter: Repairable,
  { first, longest }: RepairTimes,
  signal: AbortSignal,
): Promise<void> {
  let next = first;
  for (let round = 0; !signal.aborted; round++) {
    const well = await (round === 0 ? snapshotter.restore() : snapshotter.repair());
    const wait = well ? longest : next;
    next = well ? first : Math.min(next * 2, longest);
    await sleep(wait, undefined, { signal, ref: false }).catch(() => {}); // aborted
  }
}
