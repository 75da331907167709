/**
 * Reading through each driver, side by side with the kernel's EROFS on local files, ext4 and overlayfs with the whole image
 * present. Each kind of reading goes through all of them before the next one, so that figures of a row were measured
 * within seconds of each other.
 *
 * @module
 */
import { mkdir, mkdtemp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { mountErofs } from "../lib/mount/erofs.ts";
import { openBootstrap } from "../lib/rafs/bootstrap.ts";
import { checkBootstrap } from "../lib/rafs/check.ts";
import {
  dropCaches,
  memoryText,
  mountImage,
  type Place,
  quantile,
  seconds,
  shell,
  tool,
  type Usage,
  usageOf,
} from "./bench-place.ts";

interface Subject {
  readonly name: string;
  readonly directory: string;
  /** On the command lines of the processes that serve it. */
  readonly mark?: string;
}

/** After so long a process that has nothing to do has given back what it can. */
const REST_MS = 60_000;

interface Work {
  readonly what: string;
  readonly script: string;
  readonly warm?: boolean;
}

const readers = (count: number): string =>
  `find . -xdev -type f -print0 | xargs -0 -P${count} -n 400 cat >/dev/null`;
const SMALL = "find . -xdev -type f -size -8k -print0 | head -zn 10000";
/** fio(1) on the largest file, without its own caching; it prints nothing that we need but the time. */
const fio = (pattern: string, block: string, amount: string): string =>
  [
    "file=$(find . -xdev -type f -printf '%s %p\\n' | sort -n | tail -1 | cut -d' ' -f2-)",
    `fio --name=x --readonly --filename="$file" --rw=${pattern} --bs=${block} --io_size=${amount} --size=100%` +
      " --randrepeat=1 --invalidate=0 --output-format=terse >/dev/null",
  ].join("\n");

const WORKS: readonly Work[] = [
  { what: "find, caches empty", script: "find . -xdev -type f -printf %s >/dev/null" },
  { what: "find, warm", script: "find . -xdev -type f -printf %s >/dev/null", warm: true },
  { what: "10,000 small files, page cache empty", script: `${SMALL} | xargs -0 cat >/dev/null` },
  { what: "10,000 small files, warm", script: `${SMALL} | xargs -0 cat >/dev/null`, warm: true },
  { what: "all files, page cache empty, 1 reader", script: readers(1) },
  { what: "all files, page cache empty, 2 readers", script: readers(2) },
  { what: "all files, warm, 2 readers", script: readers(2), warm: true },
  { what: "all files, page cache empty, 4 readers", script: readers(4) },
  { what: "all files, page cache empty, 16 readers", script: readers(16) },
  { what: "fio, random 4 KiB, 32 MB, page cache empty", script: fio("randread", "4k", "32m") },
  { what: "fio, sequential 1 MiB, page cache empty", script: fio("read", "1m", "100%") },
];

/** Milliseconds between two looks at what a process takes. */
const LOOK_MS = 100;

/** The most memory that the processes take during the work. */
async function peakOf(text: string, work: () => Promise<void>): Promise<Usage> {
  let peak = await usageOf(text);
  let working = true;
  const looking = async (): Promise<void> => {
    while (working) {
      const now = await usageOf(text);
      if (now.memory > peak.memory) peak = now;
      await Bun.sleep(LOOK_MS);
    }
  };
  const looked = looking();
  try {
    await work();
  } finally {
    working = false;
    await looked;
  }
  return peak;
}

/** The image read once: nothing cached at the start, everything at the end. */
async function fill(
  place: Place,
  driver: string,
  cache = `cache-${driver}`,
): Promise<Subject & { umount(): Promise<void> }> {
  const { directory, lazy, proxy, table } = place;
  proxy.reset();
  await dropCaches();
  let mounted: Awaited<ReturnType<typeof mountImage>> | undefined;
  const mounting = await seconds(async () => {
    mounted = await mountImage(place, lazy, join(directory, cache), ["--driver", driver]);
  });
  if (mounted === undefined) throw new Error("Cannot measure: nothing was mounted");
  table.add(`mount, ${driver}`, "until ready", `${mounting.toFixed(2)} s`);
  const data = `mount-server --run-dir ${mounted.mark}`;
  const idle = await usageOf(data);
  const cwd = mounted.directory;
  let reading = 0;
  const peak = await peakOf(data, async () => {
    reading = await seconds(() => shell(readers(2), { cwd }));
  });
  const after = await usageOf(data);
  await Bun.sleep(REST_MS);
  const rested = await usageOf(data);
  table.add("all files, nothing cached", driver, `${reading.toFixed(2)} s`);
  table.add(`${driver}, all files, nothing cached`, "requests", `${proxy.requests.length}`);
  table.add(`${driver}, all files, nothing cached`, "CPU of our processes", `${after.cpu.toFixed(2)} s`);
  table.add(`${driver}, memory of the data process`, "mounted", memoryText(idle));
  table.add(`${driver}, memory of the data process`, "while reading all, at most", memoryText(peak));
  table.add(`${driver}, memory of the data process`, "after reading all", memoryText(after));
  table.add(`${driver}, memory of the data process`, "a minute later", memoryText(rested));
  return { name: driver, ...mounted };
}

/** A cache that has been read back, so that the next mount gives it to the kernel. */
async function fillAndProve(place: Place, cache: string): Promise<void> {
  const filled = await fill(place, "erofs", cache);
  await tool(["scrub", "--run-dir", filled.mark ?? ""]);
  await filled.umount();
}

/** The kernel's EROFS on the complete cache files: nothing of ours in the way. */
async function kernelErofs(place: Place): Promise<Subject> {
  const cache = join(place.directory, "cache-kernel");
  await shell(`cp -a --sparse=always ${place.directory}/cache-erofs ${cache}`);
  const [name = ""] = await readdir(join(cache, "bootstraps"));
  const bootstrap = join(cache, "bootstraps", name);
  const bytes = new Uint8Array(await readFile(bootstrap));
  const directory = await mkdtemp(join(place.directory, "mnt-"));
  const devices = openBootstrap(bytes).blobs.map(({ id }) => join(cache, "blobs", id, "data"));
  mountErofs({ bootstrap, devices, mountpoint: directory });
  const taken = await seconds(async () => checkBootstrap(bytes));
  place.table.add(
    "bootstrap",
    "complete check, once a digest",
    `${taken.toFixed(2)} s for ${(bytes.byteLength / 1e6).toFixed(1)} MB`,
  );
  return { name: "kernel EROFS", directory };
}

/** The whole image as containerd unpacks it, below an overlay. */
async function present({ directory, lazy }: Place): Promise<readonly Subject[]> {
  const [plain, upper, work, merged] = ["ext4", "upper", "work", "overlay"].map((n) => join(directory, n));
  await tool(["unpack", lazy, plain ?? ""]);
  for (const made of [upper, work, merged]) await mkdir(made ?? "");
  await shell(`mount -t overlay overlay -o lowerdir=${plain},upperdir=${upper},workdir=${work} ${merged}`);
  return [
    { name: "ext4", directory: plain ?? "" },
    { name: "overlayfs", directory: merged ?? "" },
  ];
}

/** Odd; a single one is off by a third now and then, even of the same thing beside itself. */
const PASSES = 3;

interface Measured {
  /** Seconds. */
  readonly taken: number;
  /** Of our process. */
  readonly cpu: number;
}

async function measure(subject: Subject, { script, warm }: Work): Promise<Measured> {
  const { directory: cwd, mark } = subject;
  if (warm === true) await shell(script, { cwd });
  else await dropCaches();
  const cpuNow = async (): Promise<number> => (mark === undefined ? 0 : (await usageOf(mark)).cpu);
  const before = await cpuNow();
  const taken = await seconds(() => shell(script, { cwd }));
  return { taken, cpu: (await cpuNow()) - before };
}

/** Each pass goes through all subjects; ratios are of one pass, and what is told is their middle. */
async function compare(place: Place, subjects: readonly Subject[], work: Work): Promise<void> {
  const passes: (readonly Measured[])[] = [];
  for (let pass = 0; pass < PASSES; pass++) {
    const measured: Measured[] = [];
    for (const subject of subjects) measured.push(await measure(subject, work));
    passes.push(measured);
  }
  for (const [i, { name }] of subjects.entries()) {
    const middle = (of: (own: Measured, base: Measured) => number): string =>
      quantile(
        passes.flatMap(({ [i]: own, 0: base }) => (own && base ? [of(own, base)] : [])),
        0.5,
      ).toFixed(2);
    const cpu = middle((own) => own.cpu);
    const own = Number(cpu) > 0 ? `, ${cpu} CPU s of ours` : "";
    const ratio = middle((own, base) => own.taken / base.taken);
    place.table.add(work.what, name, `${middle(({ taken }) => taken)} s (${ratio}${own})`);
  }
}

/** Ratios are to kernel EROFS in the same pass. */
export async function benchReading(place: Place): Promise<void> {
  const ours: (Subject & { umount(): Promise<void> })[] = [];
  await fillAndProve(place, "cache-complete");
  for (const driver of ["erofs", "erofs-loop", "fuse"]) ours.push(await fill(place, driver));
  const subjects = [await kernelErofs(place), ...ours, ...(await present(place))];
  const complete = await mountImage(place, place.lazy, join(place.directory, "cache-complete"));
  const { stdout } = await tool(["status", "--json", "--run-dir", complete.mark]);
  const { mounts } = JSON.parse(stdout) as { mounts: readonly { directBlobs?: readonly string[] }[] };
  if (!mounts.some(({ directBlobs = [] }) => directBlobs.length > 0))
    throw new Error("Cannot measure: the kernel does not read complete blobs by itself");
  subjects.push({ name: "erofs, complete blobs", ...complete });
  for (let round = 0; round < place.rounds; round++)
    for (const work of WORKS) await compare(place, subjects, work);
  for (const mounted of [...ours, complete]) await mounted.umount();
}
