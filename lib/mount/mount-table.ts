/**
 * The kernel's list of mounts, from /proc/self/mountinfo (proc(5)).
 *
 * @module
 */
import { readFileSync } from "node:fs";

export interface MountEntry {
  readonly mountpoint: string;
  readonly type: string;
  readonly source: string;
}

/** Space, tab, newline and backslash appear as \ooo. */
function unescaped(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

export function readMountTable(): MountEntry[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .flatMap((line) => {
      const [before = "", after = ""] = line.split(" - ");
      const mountpoint = before.split(" ")[4];
      const [type = "", source = ""] = after.split(" ");
      return mountpoint === undefined
        ? []
        : [{ mountpoint: unescaped(mountpoint), type, source: unescaped(source) }];
    });
}

/** The topmost mount at exactly this path. */
export function mountAt(path: string): MountEntry | undefined {
  return readMountTable().findLast((entry) => entry.mountpoint === path);
}
