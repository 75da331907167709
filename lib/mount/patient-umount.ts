/**
 * An unmount that outlives its server: one that dies before it has answered is started again within a second, and knows
 * its mounts.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isCode } from "../base/error.ts";

const ATTEMPTS = 20;
const PAUSE_MS = 250;

export interface Unmounting {
  /** Asks the server. */
  umount(): Promise<void>;
  /** Whether the kernel still has the mount. */
  isMounted(): boolean;
  /** For tests. */
  readonly pauseMs?: number;
}

/** @throws what the server says; unavailable when no successor comes */
export async function patientUmount({ umount, isMounted, pauseMs = PAUSE_MS }: Unmounting): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await umount();
    } catch (error) {
      const isGone = isCode(error, "unavailable");
      // The one that died, or ended with its last mount, may have done it; what else it left its successor cleans up.
      if ((isGone || (attempt > 1 && isCode(error, "not_found"))) && !isMounted()) return;
      if (!isGone || attempt === ATTEMPTS) throw error;
      await sleep(pauseMs);
    }
  }
}
