/**
 * Who holds on to a file: for a message about one that should have gone.
 *
 * @module
 */
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";

const nothing = (): string => "";

/** A line for each process that has the file open, each lock on it, and each mount elsewhere below `directory`. */
export async function holdersOf(file: string, directory: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => [...(await opened(pid, file)), ...(await mounted(pid, directory))]),
  );
  return [...(await locks(file)), ...found.flat()];
}

async function nameOf(pid: string): Promise<string> {
  const words = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(nothing);
  const state = (await readFile(`/proc/${pid}/stat`, "utf8").catch(nothing)).split(") ")[1]?.[0] ?? "?";
  return `${pid} (${state}) ${words.replaceAll("\0", " ").slice(0, 100)}`;
}

async function opened(pid: string, file: string): Promise<string[]> {
  const fds = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const targets = await Promise.all(fds.map((fd) => readlink(join("/proc", pid, "fd", fd)).catch(nothing)));
  return targets.includes(file) ? [`open in ${await nameOf(pid)}`] : [];
}

/** Only in other mount namespaces: ours is looked at anyway. */
async function mounted(pid: string, directory: string): Promise<string[]> {
  const [theirs, ours] = await Promise.all(
    [pid, "self"].map((each) => readlink(`/proc/${each}/ns/mnt`).catch(nothing)),
  );
  if (theirs === ours) return [];
  const table = (await readFile(`/proc/${pid}/mountinfo`, "utf8").catch(nothing)).split("\n");
  return table.some((line) => line.includes(directory)) ? [`mounted in ${await nameOf(pid)}`] : [];
}

async function locks(file: string): Promise<string[]> {
  const inode = (await stat(file).catch(() => undefined))?.ino;
  const lines = (await readFile("/proc/locks", "utf8")).split("\n");
  return lines
    .filter((line) => inode !== undefined && line.includes(`:${inode} `))
    .map((line) => `lock ${line}`);
}
