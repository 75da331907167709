/**
 * The benchmark behind `scripts/bench`: what a user of the program waits for, each beside its alternative in the same
 * run, since seconds drift between runs and ratios do not.
 *
 * @module
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { openBootstrap } from "../lib/rafs/bootstrap.ts";
import { checkBootstrap } from "../lib/rafs/check.ts";
import { type Containerd, startContainerd } from "../tests/support/containerd.ts";
import { startCountingProxy } from "../tests/support/counting-proxy.ts";
import { startDockerRegistry } from "../tests/support/docker-registry.ts";
import { umountAllUnder } from "../tests/support/mounts.ts";
import { run, startService, waitFor } from "../tests/support/process.ts";
import { benchKinds } from "./bench-kinds.ts";
import { Table } from "./bench-table.ts";

const TOOL = resolve("dist/nydus-tool");
/** Two readers, every file, nothing but reading. */
const READ_ALL = "find . -xdev -type f -print0 | xargs -0 -P2 -n 400 cat >/dev/null";
const FIND = "find . -xdev -type f -printf %s >/dev/null";

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

async function dropCaches(): Promise<void> {
  await run("sync", []);
  await writeFile("/proc/sys/vm/drop_caches", "3");
}

/** Resident memory of processes whose command line holds the text, in MB. */
async function memoryOf(text: string): Promise<number> {
  let total = 0;
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const line = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).replaceAll("\0", " ");
    if (!line.includes(text)) continue;
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    total += Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1000;
  }
  return total;
}

interface Place {
  readonly directory: string;
  /** In the registry, through the counting proxy. */
  readonly plain: string;
  readonly lazy: string;
  readonly table: Table;
  readonly counted: { readonly requests: readonly unknown[]; reset(): void; blobBytes(): number };
}

async function benchConvert(source: string, target: string, rounds: number, table: Table): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const fresh = `${target}-${round}`;
    const report = await run(TOOL, ["convert", "--json", source, fresh]);
    const { seconds: taken, sourceSize, targetSize } = JSON.parse(report.stdout);
    table.add(
      "convert, registry to registry",
      round === 0 ? "first" : "blobs already there",
      `${taken.toFixed(2)} s`,
    );
    if (round === 0)
      table.add(
        "size",
        "nydus / OCI",
        `${(targetSize / 1e6).toFixed(1)} / ${(sourceSize / 1e6).toFixed(1)} MB`,
      );
  }
}

/** Pull and run with nothing cached, then run again. */
async function benchStart(
  place: Place,
  containerd: Containerd,
  snapshotter: string,
  image: string,
  round: number,
): Promise<number> {
  const { table, counted } = place;
  const name = `${snapshotter}-${round}`;
  const start = (id: string): Promise<unknown> =>
    containerd.ctr(["run", "--rm", "--snapshotter", snapshotter, image, id]);
  await dropCaches();
  counted.reset();
  const pull = await seconds(() =>
    run(TOOL, ["pull", "--containerd-address", containerd.address, "--snapshotter", snapshotter, image]),
  );
  const cold = await seconds(() => start(`${name}-cold`));
  table.add(
    `cold start, ${snapshotter}`,
    "pull + run",
    `${pull.toFixed(2)} + ${cold.toFixed(2)} = ${(pull + cold).toFixed(2)} s`,
  );
  // The plain image is pulled around the counting proxy, which holds whole bodies.
  if (image === place.lazy)
    table.add(
      `cold start, ${snapshotter}`,
      "fetched",
      `${(counted.blobBytes() / 1e6).toFixed(1)} MB in ${counted.requests.length} requests`,
    );
  const warm = await seconds(() => start(`${name}-warm`));
  table.add(`warm start, ${snapshotter}`, "run again", `${warm.toFixed(2)} s`);
  return pull + cold;
}

async function benchContainers(place: Place, rounds: number): Promise<void> {
  const { directory, table } = place;
  const socket = join(directory, "s.sock");
  const log = join(directory, "snapshotter.log");
  for (let round = 0; round < rounds; round++) {
    const containerd = await startContainerd({
      directory: join(directory, "c"),
      snapshotters: { nydus: socket },
    });
    const root = join(directory, `root-${round}`);
    const snapshotter = startService(
      TOOL,
      [
        "snapshotter",
        "serve",
        "--root",
        root,
        "--address",
        socket,
        "--containerd-address",
        containerd.address,
        "--run-dir",
        join(directory, "run"),
      ],
      { log },
    );
    try {
      await waitFor(
        "the snapshotter",
        async () => (await readFile(log, "utf8").catch(() => "")).includes("serving snapshots"),
        { service: snapshotter },
      );
      const eager = await benchStart(place, containerd, "overlayfs", place.plain, round);
      const lazy = await benchStart(place, containerd, "nydus", place.lazy, round);
      table.add("cold start", "nydus / overlayfs", (lazy / eager).toFixed(3));
      table.add("memory after it", "snapshotter", `${(await memoryOf(`--address ${socket}`)).toFixed(0)} MB`);
      table.add(
        "memory after it",
        "mount process",
        `${(await memoryOf(`mount-server --run-dir ${directory}`)).toFixed(0)} MB`,
      );
      await containerd.ctr(["image", "rm", "--sync", place.lazy]);
    } finally {
      await containerd[Symbol.asyncDispose]();
      await snapshotter.stop();
      await run("sh", ["-c", `: >${log}`]);
    }
  }
}

async function benchReading(place: Place, driver: string): Promise<void> {
  const { directory, table, lazy, counted } = place;
  const mountpoint = await mkdtemp(join(directory, "mnt-"));
  const flags = ["--run-dir", join(directory, "run"), "--cache-dir", join(directory, `cache-${driver}`)];
  counted.reset();
  const mounting = await seconds(() =>
    run(TOOL, ["mount", "--detach", ...flags, "--driver", driver, lazy, mountpoint]),
  );
  table.add(`mount, ${driver}`, "until ready", `${mounting.toFixed(2)} s`);
  const measure = async (what: string, script: string, drop: boolean): Promise<void> => {
    if (drop) await dropCaches();
    table.add(
      `reading, ${driver}`,
      what,
      `${(await seconds(() => run("sh", ["-c", script], { cwd: mountpoint }))).toFixed(2)} s`,
    );
  };
  await measure("find, page cache empty", FIND, true);
  await measure("all files, nothing cached", READ_ALL, true);
  table.add(`reading, ${driver}`, "requests for all", `${counted.requests.length}`);
  await measure("all files, page cache empty", READ_ALL, true);
  await measure("all files, warm", READ_ALL, false);
  table.add(
    `memory, ${driver}`,
    "mount process",
    `${(await memoryOf(`mount-server --run-dir ${directory}`)).toFixed(0)} MB`,
  );
  await run(TOOL, ["umount", "--run-dir", join(directory, "run"), mountpoint]);
}

/** The kernel's EROFS on the complete cache files: nothing of ours in the way. */
async function benchKernel({ directory, table }: Place): Promise<void> {
  const cache = join(directory, "cache-erofs");
  const [bootstrap = ""] = await readdir(join(cache, "bootstraps"));
  const path = join(cache, "bootstraps", bootstrap);
  const { mountErofs, unmount } = await import("../lib/mount/erofs.ts");
  const mountpoint = await mkdtemp(join(directory, "mnt-"));
  const devices = openBootstrap(await readFile(path)).blobs.map((blob) =>
    join(cache, "blobs", blob.id, "data"),
  );
  mountErofs({ bootstrap: path, devices, mountpoint });
  const measure = async (what: string, script: string, drop: boolean): Promise<void> => {
    if (drop) await dropCaches();
    table.add(
      "reading, kernel EROFS on files",
      what,
      `${(await seconds(() => run("sh", ["-c", script], { cwd: mountpoint }))).toFixed(2)} s`,
    );
  };
  await measure("find, page cache empty", FIND, true);
  await measure("all files, page cache empty", READ_ALL, true);
  await measure("all files, warm", READ_ALL, false);
  unmount(mountpoint);
  const bytes = new Uint8Array(await readFile(path));
  const start = performance.now();
  checkBootstrap(bytes);
  table.add(
    "bootstrap",
    "complete check, once a digest",
    `${((performance.now() - start) / 1000).toFixed(2)} s for ${(bytes.byteLength / 1e6).toFixed(1)} MB`,
  );
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { image: { type: "string" }, rounds: { type: "string", default: "2" } },
  });
  const rounds = Number(values.rounds);
  const directory = await mkdtemp(join(tmpdir(), "nb-"));
  const table = new Table();
  try {
    await using registry = await startDockerRegistry(join(directory, "registry"));
    await using counted = await startCountingProxy(registry.host);
    await run("skopeo", [
      "copy",
      "--dest-tls-verify=false",
      values.image ?? "",
      `docker://${registry.host}/bench:oci`,
    ]);
    await benchConvert(`${registry.host}/bench:oci`, `${registry.host}/bench:nydus`, rounds, table);
    const place = {
      directory,
      plain: `${registry.host}/bench:oci`,
      lazy: `${counted.host}/bench:nydus-0`,
      table,
      counted,
    };
    await mkdir(join(directory, "run"), { recursive: true });
    await benchContainers(place, rounds);
    for (const driver of ["erofs", "fuse"]) await benchReading(place, driver);
    await benchKernel(place);
    await benchKinds({ source: `${registry.host}/bench:oci`, host: registry.host, directory, table });
  } finally {
    await umountAllUnder(directory);
    await rm(directory, { recursive: true, force: true });
  }
  process.stdout.write(table.toString());
}

await main();
process.exit(0);
