/**
 * Where mounts are found and chunks are kept when nobody says it: the machine's directories for root, a user's own
 * (XDG Base Directory Specification) for anybody else.
 *
 * @module
 */
import { lstatSync, mkdirSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { NydusError } from "../base/error.ts";
import { isRoot } from "../base/self.ts";
import type { Environment } from "../base/systemd.ts";

const NAME = "nydus-tool";
export const ROOTS_RUN_DIRECTORY = `/run/${NAME}`;
const ROOTS_CACHE_DIRECTORY = `/var/cache/${NAME}`;

/** For `--help`. */
export const RUN_ROOT_HELP = `${ROOTS_RUN_DIRECTORY}; without root, $XDG_RUNTIME_DIR/${NAME}`;
export const CACHE_DIRECTORY_HELP = `${ROOTS_CACHE_DIRECTORY}; without root, ~/.cache/${NAME}`;

/** @throws denied when somebody else could put a socket into it */
export function defaultRunRoot(environment: Environment): string {
  return isRoot() ? ROOTS_RUN_DIRECTORY : usersRunRoot(environment, process.getuid?.() ?? 0, tmpdir());
}

export function defaultCacheDirectory(environment: Environment): string {
  return isRoot() ? ROOTS_CACHE_DIRECTORY : usersCacheDirectory(environment, homedir());
}

/** @param shared a directory such as /tmp, where anybody may have been first */
export function usersRunRoot(environment: Environment, uid: number, shared: string): string {
  const session = environment.XDG_RUNTIME_DIR ?? "";
  // After su it may still be the other user's.
  const root = isPrivate(session, uid) ? join(session, NAME) : join(shared, `${NAME}-${uid}`);
  mkdirSync(root, { recursive: true, mode: 0o700 });
  if (isPrivate(root, uid)) return root;
  throw new NydusError(
    "denied",
    `Cannot use "${root}": it is not a directory that only user ${uid} may enter; say another with --run-dir`,
  );
}

export function usersCacheDirectory({ XDG_CACHE_HOME: said = "" }: Environment, home: string): string {
  // Relative ones are to be ignored.
  return join(isAbsolute(said) ? said : join(home, ".cache"), NAME);
}

function isPrivate(path: string, uid: number): boolean {
  if (!isAbsolute(path)) return false;
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === uid && (found.mode & 0o077) === 0;
}
