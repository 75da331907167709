/**
 * `nydus-tool umount`: ends a mount and the process that served only it.
 *
 * @module
 */
import { NydusError } from "../lib/base/error.ts";
import { unmount } from "../lib/mount/erofs.ts";
import { mountAt, realPlace } from "../lib/mount/mount-table.ts";
import { patientUmount } from "../lib/mount/patient-umount.ts";
import { findMounts, sweepRunDirectories } from "../lib/mount/run-directory.ts";
import type { Command } from "./command.ts";
import { RUN_ROOT_FLAG, runRootOf } from "./run-root.ts";

const GONE_TIMEOUT_MS = 10_000;

export const umount: Command = {
  name: "umount",
  summary: "Unmount what mount mounted",
  operands: "DIR",
  arity: [1, 1],
  flags: {
    force: { type: "boolean", short: "f", help: "even when it is in use: its users get errors" },
    ...RUN_ROOT_FLAG,
  },
  examples: [["nydus-tool umount /mnt/app", "the cache stays for the next mount"]],
  async run(args, context) {
    const path = args.operand(0);
    const mountpoint = realPlace(path);
    const detach = args.boolean("force");
    const runRoot = runRootOf(args, context);
    const found = (await findMounts(runRoot)).find(({ status }) => status.mountpoint === mountpoint);
    if (found !== undefined) {
      const ended = found.client.gone().catch(() => "died" as const);
      await patientUmount({
        umount: async () => void (await found.client.umount(found.status.id, { detach })),
        isMounted: () => mountAt(mountpoint) !== undefined,
      });
      // The serving process ends with its last mount; wait, so that what it held is free.
      const left = await found.client.list().catch(() => []);
      if (left.length === 0) await Promise.race([ended, Bun.sleep(GONE_TIMEOUT_MS)]);
      return;
    }
    // Nobody serves it any more, but the kernel may still have it.
    const there = mountAt(mountpoint);
    if (there?.type === "erofs" || there?.type === "fuse.nydus") {
      unmount(mountpoint, { detach });
      await sweepRunDirectories(runRoot, context.log);
    } else throw new NydusError("not_found", `Cannot unmount "${path}": nothing of ours is mounted there`);
  },
};
