/**
 * A directory for one test, with the built program to run in it: its own cache, its own run directory, and nothing left
 * at the end, however the test ends.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { onTestFinished } from "vitest";
import { mountsUnder, umountAllUnder } from "./mounts.ts";
import { type Output, type RunOptions, run, type Service, startService, waitFor } from "./process.ts";

/** The binary under test; scripts/test has just built it. */
export const TOOL = resolve(process.env.NYDUS_TOOL ?? "dist/nydus-tool");

export interface MountOptions {
  readonly driver?: "auto" | "erofs" | "erofs-loop" | "fuse";
  /** Another cache than the workspace's. */
  readonly cache?: string;
  readonly flags?: readonly string[];
}

/** What `mount --json` says and the control socket repeats, as far as tests look at it. */
export interface MountReport {
  readonly mountpoint: string;
  readonly driver: string;
  readonly imageBytes: number;
  readonly fetchedBytes: number;
  readonly requests: number;
  readonly corruptChunks: number;
}

export class Workspace implements AsyncDisposable {
  readonly directory: string;
  readonly #cleanups: (() => PromiseLike<unknown>)[] = [];

  constructor(directory: string) {
    this.directory = directory;
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  /** Runs before the directory goes; the last one first. */
  defer(cleanup: () => PromiseLike<unknown>): void {
    this.#cleanups.push(cleanup);
  }

  /** Run the program to its end. Verbs that fail throw, unless `mayFail` is set. */
  tool(args: readonly string[], options: RunOptions = {}): Promise<Output> {
    return run(TOOL, args, { ...options, env: { ...this.#env(), ...options.env } });
  }

  /** Start the program and leave it running; its output goes to `NAME.log`. */
  start(name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Service {
    const service = startService(TOOL, args, {
      log: this.path(`${name}.log`),
      env: { ...this.#env(), ...env },
    });
    this.defer(() => service.stop());
    return service;
  }

  /** The snapshotter of this directory, beside a containerd in `c`. Resolves when it serves. */
  async startSnapshotter(...flags: string[]): Promise<Service> {
    const printed = (await this.log("snapshotter")).length;
    const service = this.start("snapshotter", [
      ...["snapshotter", "serve", "--root", this.path("snapshots"), "--address", this.path("s.sock")],
      ...["--containerd-address", this.path("c/c.sock"), "--run-dir", this.path("run"), ...flags],
    ]);
    const serving = async () => (await this.log("snapshotter")).slice(printed).includes("serving snapshots");
    await waitFor("the snapshotter", serving, { service });
    return service;
  }

  log(name: string): Promise<string> {
    return readFile(this.path(`${name}.log`), "utf8").catch(() => "");
  }

  /** Mount an image on a fresh directory in a detached process, and say where. */
  async mount(image: string, options: MountOptions = {}): Promise<string> {
    const mountpoint = await mkdtemp(this.path("mnt-"));
    await this.tool([...this.mountWords(options), "--detach", image, mountpoint]);
    return mountpoint;
  }

  /** Mount an image by one driver after the other, each with a cache of its own, and look at what it shows. */
  async mountEach<Driver extends NonNullable<MountOptions["driver"]>>(
    drivers: readonly Driver[],
    image: string,
    look: (mountpoint: string, driver: Driver) => Promise<unknown>,
    flags: readonly string[] = [],
  ): Promise<void> {
    for (const driver of drivers) {
      const mountpoint = await this.mount(image, { driver, cache: this.path(driver), flags });
      await look(mountpoint, driver);
      await this.umount(mountpoint);
    }
  }

  mountWords(options: MountOptions = {}): string[] {
    const cache = options.cache ?? this.path("cache");
    const words = ["mount", "--run-dir", this.path("run"), "--cache-dir", cache];
    return [...words, "--driver", options.driver ?? "auto", ...(options.flags ?? [])];
  }

  async umount(mountpoint: string): Promise<void> {
    await this.tool(["umount", "--run-dir", this.path("run"), mountpoint]);
  }

  /** Ids of processes that have this directory on their command line. */
  async processes(): Promise<number[]> {
    const found: number[] = [];
    for (const pid of await readdir("/proc")) {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
      const words = await this.commandOf(Number(pid));
      if (words.some((word) => word.includes(this.directory))) found.push(Number(pid));
    }
    return found;
  }

  /** A process's words; none when it has ended. */
  async commandOf(pid: number): Promise<string[]> {
    return (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
  }

  mounts(): string[] {
    return mountsUnder(this.directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0).reverse())
      await Promise.resolve(cleanup()).catch(() => {});
    await umountAllUnder(this.directory);
    await this.#end();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** They would find out by themselves that their mounts are gone: within seconds. */
  async #end(): Promise<void> {
    const all = await this.processes();
    const commands = await Promise.all(all.map((pid) => this.commandOf(pid)));
    // A controlling process ends its server; a server that ends first would be started again.
    const controllers = all.filter((_, i) => commands[i]?.includes("mount-server") !== true);
    signal(controllers.length > 0 ? controllers : all, "SIGTERM");
    const ended = async (): Promise<boolean> => (await this.processes()).length === 0;
    await waitFor("processes to end", ended, { seconds: 5 }).catch(async () =>
      signal(await this.processes(), "SIGKILL"),
    );
  }

  #env(): Record<string, string> {
    return { HOME: this.path("home"), XDG_CACHE_HOME: this.path("home/.cache") };
  }
}

/** Goes away when the current test ends, also when it fails or takes too long. */
export async function workspace(): Promise<Workspace> {
  const made = await openWorkspace();
  onTestFinished(() => made[Symbol.asyncDispose]());
  return made;
}

/** For several tests together: dispose it in `afterAll`. */
export async function openWorkspace(): Promise<Workspace> {
  if (!existsSync(TOOL)) throw new Error(`Cannot test "${TOOL}": it is not built; run scripts/build`);
  // Short: the path of a unix socket ends at 107 bytes.
  const made = new Workspace(await mkdtemp(join(tmpdir(), "nt-")));
  await mkdir(made.path("home"));
  return made;
}

function signal(pids: readonly number[], how: NodeJS.Signals): void {
  for (const pid of pids)
    try {
      process.kill(pid, how);
    } catch {
      // It has ended meanwhile.
    }
}
