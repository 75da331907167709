/**
 * A program file that the processes behind mounts can be started from, in the place of their own.
 *
 * @module
 */
import { statSync } from "node:fs";
import { errnoName, setInheritable } from "../../ffi/libc.ts";
import { becomeProgram } from "../../ffi/process.ts";
import { NydusError } from "../base/error.ts";
import { PROGRAM_NAME } from "../base/self.ts";
import { environmentOfSelf } from "./inherited-descriptors.ts";

/** The file, and words between it and its verb: none of a compiled one. */
export type Program = readonly [path: string, ...words: string[]];

/** Checks what came over the control socket. */
export function parseProgram(value: unknown): Program {
  const [path, ...words] = Array.isArray(value) ? (value as unknown[]) : [];
  if (typeof path === "string" && path.startsWith("/") && words.every((word) => typeof word === "string"))
    return [path, ...(words as string[])];
  throw new NydusError("usage", "Cannot upgrade: the program is not an absolute path");
}

/** Whether a process runs that file, whatever its name is now. */
export function runsProgram(pid: number, [path]: Program): boolean {
  const [running, wanted] = [`/proc/${pid}/exe`, path].map((each) =>
    statSync(each, { throwIfNoEntry: false }),
  );
  return running !== undefined && running.ino === wanted?.ino && running.dev === wanted.dev;
}

/**
 * This process goes on as the program, with the descriptors that it keeps.
 *
 * @param words the verb and its flags
 * @throws internal when the kernel refuses
 */
export function becomeWith(
  [path, ...before]: Program,
  words: readonly string[],
  descriptors: ReadonlyMap<string, number>,
): never {
  for (const fd of descriptors.values()) setInheritable(fd, true);
  const environment = environmentOfSelf(process.env, descriptors);
  const errno = -becomeProgram(path, [PROGRAM_NAME, ...before, ...words], environment);
  for (const fd of descriptors.values()) setInheritable(fd, false);
  throw new NydusError("internal", `Cannot become "${path}": ${errnoName(errno)}`);
}
