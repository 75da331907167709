/**
 * A file that an installation puts, changes or takes away, thought of before it is done: so that it can be shown only.
 *
 * @module
 */
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { chmod, chown, mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { digestOf } from "../base/digest.ts";
import { toNydusError } from "../base/error.ts";

export interface FileChange {
  readonly path: string;
  readonly action: "create" | "change" | "keep" | "remove";
  /** Why it is kept, or what is new in it. */
  readonly detail?: string;
  apply(): Promise<void>;
}

/** @returns undefined when there is no such file */
export function contentOf(path: string): Uint8Array | undefined {
  try {
    return existsSync(path) ? readFileSync(path) : undefined;
  } catch (error) {
    throw toNydusError(error, `read "${path}"`);
  }
}

export function kept(path: string, detail: string): FileChange {
  return { path, action: "keep", detail, apply: async () => {} };
}

export function removal(path: string, detail?: string): FileChange {
  return {
    path,
    action: "remove",
    ...(detail === undefined ? {} : { detail }),
    apply: () => rm(path, { force: true }),
  };
}

/** Replaces a file whole, or makes it; a link is followed, mode and owner of what was there stay. */
export function written(
  path: string,
  content: Uint8Array,
  options: { readonly mode?: number; readonly detail?: string } = {},
): FileChange {
  const there = contentOf(path);
  const { mode = 0o644, detail } = options;
  if (there !== undefined && digestOf(there) === digestOf(content) && hasMode(path, mode))
    return kept(path, "as it should be");
  return {
    path,
    action: there === undefined ? "create" : "change",
    ...(detail === undefined ? {} : { detail }),
    apply: () => write(path, content, mode),
  };
}

/** Of what is executable, that matters. */
function hasMode(path: string, mode: number): boolean {
  return (mode & 0o111) === 0 || (statSync(path).mode & 0o111) === (mode & 0o111);
}

async function write(path: string, content: Uint8Array, mode: number): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    const target = existsSync(path) ? realpathSync(path) : path;
    const before = await stat(target).catch(() => undefined);
    const temporary = `${target}.nydus-new`;
    await writeFile(temporary, content, { mode, flush: true });
    await chmod(temporary, before === undefined ? mode : (before.mode & 0o7777) | (mode & 0o111));
    if (before !== undefined) await chown(temporary, before.uid, before.gid);
    await rename(temporary, target);
  } catch (error) {
    throw toNydusError(error, `write "${path}"`);
  }
}
