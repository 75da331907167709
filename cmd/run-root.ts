/** The directory in which verbs find running mounts: given, or this user's. @module */
import { resolve } from "node:path";
import { defaultRunRoot, RUN_ROOT_HELP } from "../lib/mount/default-directories.ts";
import type { Arguments, Context, Flag } from "./command.ts";

export const RUN_ROOT_FLAG: Readonly<Record<"run-dir", Flag>> = {
  "run-dir": { type: "string", value: "DIR", help: `where running mounts are found (${RUN_ROOT_HELP})` },
};

export function runRootOf(args: Arguments, { env }: Pick<Context, "env">): string {
  return resolve(args.string("run-dir") ?? defaultRunRoot(env));
}
