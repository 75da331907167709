/**
 * How to start this program again: the compiled binary, or Bun with the entry point when run from source.
 *
 * @module
 */
import { realpathSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** What process lists show instead of the path below. */
export const PROGRAM_NAME = "nydus-tool";

/** The kernel names a process after the last part of the path it was started by, which here may be "exe". */
export function nameProcess(): void {
  writeFileSync("/proc/self/comm", PROGRAM_NAME);
}

/**
 * The very binary that runs, also when its file was replaced or removed since: the processes of one mount are of one
 * version, until an upgrade changes all of them.
 */
const SELF = "/proc/self/exe";

/** Where the file lies, for another process to start it. */
export function selfPath(): string {
  return realpathSync(SELF);
}

/** Whose powers the process has; of others there is no talk here. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

export function selfCommand(): readonly string[] {
  return [SELF, ...entryPoint()];
}

/** Words between the program and its arguments: none when compiled. */
export function entryPoint(): readonly string[] {
  if (import.meta.url.startsWith("file:///$bunfs/")) return [];
  return [fileURLToPath(new URL("../../cmd/main.ts", import.meta.url))];
}
