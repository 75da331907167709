/**
 * The kernel's list of mounts, from /proc/self/mountinfo (proc(5)).
 *
 * @module
 */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

export interface MountEntry {
  /** The kernel's number of this mount; used again when it is gone. */
  readonly id: number;
  /** "major:minor" of the file system. */
  readonly device: string;
  readonly mountpoint: string;
  readonly type: string;
  readonly source: string;
  /** Of the file system: "rw,lowerdir=/a:/b". */
  readonly options: string;
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
      const [id = "", , device = "", , mountpoint] = before.split(" ");
      const [type = "", source = "", options = ""] = after.split(" ");
      if (mountpoint === undefined) return [];
      return [
        {
          id: Number(id),
          device,
          mountpoint: unescaped(mountpoint),
          type,
          source: unescaped(source),
          options: unescaped(options),
        },
      ];
    });
}

/** The real path of what is there, also of a mountpoint whose server is dead: that itself cannot be looked at. */
export function realPlace(path: string): string {
  const whole = resolve(path);
  const parent = dirname(whole);
  if (existsSync(whole)) return realpathSync(whole);
  return existsSync(parent) ? join(realpathSync(parent), basename(whole)) : whole;
}

/** The topmost mount at exactly this path. */
export function mountAt(path: string): MountEntry | undefined {
  return readMountTable().findLast((entry) => entry.mountpoint === path);
}
