/**
 * The lock of a cache file: whoever has it is the only one to write the file, punch holes into it or delete it.
 *
 * @module
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import { errnoName, flock, LOCK } from "../../ffi/libc.ts";
import { NydusError } from "../base/error.ts";

/**
 * Opens the data file of a cache directory, made if need be, with one open file description for everything: the lock,
 * reads, writes, and the lease that tells who else has it.
 *
 * @returns undefined when another process has the lock
 */
export function lockedFile(directory: string): number | undefined {
  for (;;) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const fd = openSync(dataPath(directory), constants.O_RDWR | constants.O_CREAT, 0o600);
    const state = lock(fd, directory);
    if (state === "locked") return fd;
    closeSync(fd);
    if (state === "held") return undefined;
  }
}

export function dataPath(directory: string): string {
  return join(directory, "data");
}

/** "deleted": whoever deletes a file holds its lock, so what we have locked may be gone from the directory. */
function lock(fd: number, directory: string): "locked" | "held" | "deleted" {
  const result = flock(fd, LOCK.EX | LOCK.NB);
  if (result < 0) {
    if (errnoName(-result) === "EAGAIN") return "held";
    closeSync(fd);
    throw new NydusError("internal", `Cannot lock "${directory}": ${errnoName(-result)}`);
  }
  const named = statSync(dataPath(directory), { throwIfNoEntry: false });
  return named?.ino === fstatSync(fd).ino ? "locked" : "deleted";
}
