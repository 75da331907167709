/**
 * Where processes that serve mounts can be found: one directory each below /run, with a control socket in it.
 *
 * @module
 */
import { closeSync, existsSync, openSync, readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { flock, LOCK } from "../../ffi/libc.ts";
import { isCode, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
import { type BrokenMount, lostMount, stillBroken } from "./broken-mounts.ts";
import { ControlClient } from "./control-client.ts";
import { unmount } from "./erofs.ts";
import type { MountStatus } from "./mount-request.ts";
import { readMountTable } from "./mount-table.ts";
import { loadState } from "./saved-state.ts";

export function controlSocket(runDirectory: string): string {
  return join(runDirectory, "control.sock");
}

/** Held by the process that serves. */
export function lockFile(runDirectory: string): string {
  return join(runDirectory, "lock");
}

export interface FoundMount {
  readonly client: ControlClient;
  readonly status: MountStatus;
}

/** Every mount of every living process. `findBroken` has what dead ones left. */
export async function findMounts(runRoot: string): Promise<readonly FoundMount[]> {
  return await askAll(runRoot, async (client) => (await client.list()).map((status) => ({ client, status })));
}

/** The cache of every living process; processes may share one. */
export async function findCaches(runRoot: string): Promise<readonly CacheStatus[]> {
  return await askAll(runRoot, async (client) => [await client.cache()]);
}

async function askAll<T>(
  runRoot: string,
  ask: (client: ControlClient) => Promise<readonly T[]>,
): Promise<readonly T[]> {
  const found: T[] = [];
  for (const client of clients(runRoot)) {
    try {
      found.push(...(await ask(client)));
    } catch (error) {
      if (!isCode(error, "unavailable")) throw error;
    }
  }
  return found;
}

/** Of every process that may be serving. */
export function clients(runRoot: string): ControlClient[] {
  return runDirectories(runRoot)
    .map(controlSocket)
    .filter((socket) => existsSync(socket))
    .map((socket) => new ControlClient(socket));
}

function runDirectories(runRoot: string): string[] {
  if (!existsSync(runRoot)) return [];
  return readdirSync(runRoot, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(runRoot, entry.name));
}

/** A dead process is started again within a second by the other one behind its mounts, if that lives. */
const REVIVAL_MS = 1500;
const LOOK_MS = 100;

/** Mounts of this machine whose reads fail, because everybody who could serve them died. */
export async function findBroken(runRoot: string): Promise<readonly BrokenMount[]> {
  const found = await Promise.all(runDirectories(runRoot).map(brokenMounts));
  return found.flat();
}

/** Those of one run directory. */
export async function brokenMounts(runDirectory: string): Promise<readonly BrokenMount[]> {
  const { mounts, lost } = loadState(runDirectory);
  if (mounts.length === 0 || (await isServed(runDirectory))) return stillBroken(lost);
  // Without a session the kernel reads cache files only, and needs nobody.
  const needy = mounts.filter(({ session }) => session !== "");
  return stillBroken([...lost, ...needy.map(lostMount)]);
}

async function isServed(runDirectory: string): Promise<boolean> {
  for (let waited = 0; waited < REVIVAL_MS; waited += LOOK_MS) {
    if (isLocked(runDirectory)) return true;
    await Bun.sleep(LOOK_MS);
  }
  return false;
}

/** Whether a process serves, or is about to. */
export function isLocked(runDirectory: string): boolean {
  const fd = openLock(runDirectory);
  if (fd === undefined) return false;
  try {
    return flock(fd, LOCK.EX | LOCK.NB) < 0;
  } finally {
    closeSync(fd);
  }
}

/** Undefined when there is none: the directory may go at any moment. */
function openLock(runDirectory: string): number | undefined {
  try {
    return openSync(lockFile(runDirectory), "r+");
  } catch (error) {
    const known = toNydusError(error, "look for a mount process");
    if (isCode(known, "not_found")) return undefined;
    throw known;
  }
}

/** Where the keeper of a detached mount complains: beside its run directory. */
export function keeperLog(runDirectory: string): string {
  return `${runDirectory}.log`;
}

/** Only these belong to one mount; a snapshotter's directory waits for its next start. */
const OF_ONE_MOUNT = /^mount-\d+$/;

/**
 * Removes run directories of mounts whose processes died and whose mountpoints nobody has mounted any more. Never fails:
 * others sweep at the same time, and a mount is no worse for what cannot be tidied up beside it.
 */
export async function sweepRunDirectories(runRoot: string, log: Logger): Promise<void> {
  for (const directory of runDirectories(runRoot)) {
    try {
      if (OF_ONE_MOUNT.test(basename(directory))) await sweep(directory);
    } catch (error) {
      log.debug(toNydusError(error, `tidy up "${directory}"`).message);
    }
  }
}

async function sweep(directory: string): Promise<void> {
  // Without it, one that is just being made.
  if (!existsSync(lockFile(directory))) return;
  const { mounts } = loadState(directory);
  if (stillBroken(mounts.map(lostMount)).length > 0 || (await isServed(directory))) return;
  removeRunDirectory(directory);
  rmSync(keeperLog(directory), { force: true });
}

/** Whether a run directory that nobody serves says nothing that is still true. */
export function isForgettable(runDirectory: string): boolean {
  const { mounts, lost } = loadState(runDirectory);
  return mounts.length === 0 && stillBroken(lost).length === 0;
}

/** Whether it has mounts of cache files alone: they outlive every process, and still want one that looks after them. */
export function servesItself(runDirectory: string): boolean {
  return loadState(runDirectory).mounts.some(({ session }) => session === "");
}

/** What is still mounted in it is nobody's, and would be in the way. */
export function removeRunDirectory(path: string): void {
  const inside = readMountTable().filter(({ mountpoint }) => mountpoint.startsWith(`${path}/`));
  for (const { mountpoint } of inside.reverse()) unmount(mountpoint, { detach: true });
  rmSync(path, { recursive: true, force: true });
}
