/**
 * What the parts of the benchmark share: where things are, the table, and how to measure.
 *
 * @module
 */
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { CountingProxy } from "../tests/support/counting-proxy.ts";
import type { Registry } from "../tests/support/docker-registry.ts";
import { type Output, type RunOptions, run } from "../tests/support/process.ts";
import type { Table } from "./bench-table.ts";

export const TOOL = resolve("dist/nydus-tool");

export interface Place {
  /** Everything is below it. */
  readonly directory: string;
  readonly registry: Registry;
  /** Before the registry: what passes is counted, and may be slowed. */
  readonly proxy: CountingProxy;
  /** As the image was given: "oci:DIR:TAG". */
  readonly image: string;
  /** In the registry: the ordinary image, and the Nydus one through the proxy. */
  readonly plain: string;
  readonly lazy: string;
  readonly rounds: number;
  readonly table: Table;
}

export function tool(args: readonly string[], options?: RunOptions): Promise<Output> {
  return run(TOOL, args, options);
}

export function shell(script: string, options?: RunOptions): Promise<Output> {
  return run("sh", ["-ec", script], options);
}

export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

export async function dropCaches(): Promise<void> {
  await run("sync", []);
  await writeFile("/proc/sys/vm/drop_caches", "3");
}

/** @param share 0.5 for the median, 0.95 for what all but a twentieth stay below */
export function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? 0;
}

export interface Usage {
  /** Memory in MB: of pages that several processes share (most of the program itself), each has its part. */
  readonly memory: number;
  /** How much of it is nobody else's, and no file's. */
  readonly anonymous: number;
  /** Processor time so far, in seconds. */
  readonly cpu: number;
}

/** Clock ticks a second: the same on every Linux that we run on. */
const TICKS = 100;

/** Of all processes whose command line holds the text. */
export async function usageOf(text: string): Promise<Usage> {
  const usage = { memory: 0, anonymous: 0, cpu: 0 };
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const read = (name: string): Promise<string> => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
    if (!(await read("cmdline")).replaceAll("\0", " ").includes(text)) continue;
    const sizes = await read("smaps_rollup");
    const megabytes = (field: string): number =>
      (Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(sizes)?.[1] ?? 0) * 1024) / 1e6;
    usage.memory += megabytes("Pss");
    usage.anonymous += megabytes("Anonymous");
    const [, rest = ""] = (await read("stat")).split(") ");
    const fields = rest.split(" ");
    usage.cpu += (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS;
  }
  return usage;
}

/** For a table: of a process, all and its own. */
export function memoryText({ memory, anonymous }: Usage): string {
  return `${memory.toFixed(0)} MB, ${anonymous.toFixed(0)} of them its own`;
}

export interface Mounted {
  readonly directory: string;
  /** On the command lines of its processes, and on no other. */
  readonly mark: string;
  umount(): Promise<void>;
}

let mounts = 0;

/** Mounts with a run directory of its own; the cache is the caller's. */
export async function mountImage(
  place: Place,
  reference: string,
  cache: string,
  flags: readonly string[] = [],
): Promise<Mounted> {
  const directory = await mkdtemp(join(place.directory, "mnt-"));
  const mark = join(place.directory, `run-${mounts++}`);
  const words = ["--run-dir", mark, "--cache-dir", cache, ...flags];
  await tool(["mount", "--detach", ...words, reference, directory]);
  return {
    directory,
    mark,
    umount: async () => void (await tool(["umount", "--run-dir", mark, directory])),
  };
}
