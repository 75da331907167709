/**
 * The process that serves mounts, as the one that needs them sees it: started when first needed, found again after a
 * restart of either, and started again, with its file systems intact, when it is killed.
 *
 * @module
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { isCode, NydusError, toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { selfCommand } from "../base/self.ts";
import { ControlClient } from "./control-client.ts";
import { KeptDescriptors } from "./kept-descriptors.ts";
import type { Driver, MountRequest, MountStatus } from "./mount-request.ts";

const START_TIMEOUT_MS = 15_000;
const POLL_MS = 10;

/** A process that dies this soon after its start is started again only after a growing wait. */
const STABLE_MS = 2000;
const MOST_WAIT_MS = 5000;
const FIRST_FD = 3;

export interface MountServerOptions {
  /** For the socket, the device directory and the log; root's alone. */
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  readonly driver: Driver;
  readonly plainHttp?: boolean;
  readonly insecure?: boolean;
  /** Seconds without any mount after which the process ends by itself. */
  readonly idleSeconds?: number;
  readonly log: Logger;
}

export interface ImageMountRequest {
  readonly id: string;
  readonly bootstrap: string;
  readonly mountpoint: string;
  readonly reference: string;
  readonly credentials?: { readonly username: string; readonly password: string };
}

export function controlSocket(runDirectory: string): string {
  return join(runDirectory, "control.sock");
}

export class MountServer implements AsyncDisposable {
  readonly #options: MountServerOptions;
  readonly #client: ControlClient;
  readonly #kept = new KeptDescriptors();
  readonly #ended = Promise.withResolvers<void>();
  #starting: Promise<void> | undefined;
  #watched = false;
  #disposed = false;

  constructor(options: MountServerOptions) {
    this.#options = options;
    this.#client = new ControlClient(controlSocket(options.runDirectory));
  }

  /** Resolves when the process ended by itself: it had nothing to serve, or was asked to stop. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** A process that an earlier one of us started: watch it and keep its file systems alive. */
  async attach(): Promise<void> {
    await this.#ifRunning(() => this.#keep(), undefined);
  }

  async mount(request: ImageMountRequest): Promise<MountStatus> {
    const { id, bootstrap, mountpoint, reference, credentials } = request;
    const { driver, plainHttp = false, insecure = false } = this.#options;
    const source = {
      location: reference,
      plainHttp,
      insecure,
      ...(credentials === undefined ? {} : { credentials }),
    };
    return await this.mountAs({ id, bootstrap, mountpoint, source, driver });
  }

  async mountAs(request: MountRequest): Promise<MountStatus> {
    const status = await this.#started(() => this.#client.mount(request));
    await this.#keep();
    return status;
  }

  async umount(id: string): Promise<void> {
    try {
      await this.#client.umount(id);
      await this.#ifRunning(() => this.#keep(), undefined);
    } catch (error) {
      if (!isCode(error, "not_found") && !isCode(error, "unavailable")) throw error;
    }
  }

  /** Nothing is mounted while the process is not running. */
  async list(): Promise<readonly MountStatus[]> {
    return await this.#ifRunning(() => this.#client.list(), []);
  }

  async cacheUsage(blobId: string): Promise<number> {
    return await this.#ifRunning(() => this.#client.usage(blobId), 0);
  }

  async collect(keep: ReadonlySet<string>): Promise<void> {
    await this.#ifRunning(() => this.#client.collect(keep), []);
  }

  /** Unmounts everything and ends the process. */
  async stop(): Promise<void> {
    // Nobody watches a process whose first mount failed.
    const gone = this.#watched ? this.ended : this.#client.gone().catch(() => {});
    const running = await this.#ifRunning(async () => {
      await this.#client.stop();
      return true;
    }, false);
    if (running || this.#watched) await Promise.race([gone, Bun.sleep(START_TIMEOUT_MS)]);
  }

  async #ifRunning<T>(work: () => Promise<T>, otherwise: T): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isCode(error, "unavailable")) return otherwise;
      throw error;
    }
  }

  /** The process may end between two calls (it does when it has nothing to serve): start it and ask once more. */
  async #started<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isCode(error, "unavailable")) throw error;
    }
    await this.#start();
    return await work();
  }

  async #start(): Promise<void> {
    this.#starting ??= this.#spawn().finally(() => {
      this.#starting = undefined;
    });
    await this.#starting;
  }

  async #spawn(): Promise<void> {
    const { runDirectory, cacheDirectory, idleSeconds, log } = this.#options;
    mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
    const output = openSync(join(runDirectory, "mount-server.log"), "a", 0o600);
    const kept = [...this.#kept.all];
    const adopted = Object.fromEntries(kept.map(([key], i) => [key, FIRST_FD + i]));
    const command = [
      ...selfCommand(),
      "mount-server",
      "--run-dir",
      runDirectory,
      "--cache-dir",
      cacheDirectory,
    ];
    if (idleSeconds !== undefined) command.push("--idle", `${idleSeconds}`);
    if (kept.length > 0) command.push("--adopt", JSON.stringify(adopted));
    // Detached: its own session, so that ending this process (or its terminal) does not end it.
    const child = Bun.spawn(command, {
      stdio: ["ignore", output, output, ...kept.map(([, fd]) => fd)],
      detached: true,
      cwd: "/",
    });
    child.unref();
    closeSync(output);
    log.info("started the mount process", { pid: child.pid, adopted: kept.length });
    await this.#ready(child);
  }

  async #ready(child: Bun.Subprocess): Promise<void> {
    for (let waited = 0; waited < START_TIMEOUT_MS; waited += POLL_MS) {
      if (await this.#ifRunning(() => this.#client.ping(), undefined)) return;
      if (child.exitCode !== null || child.signalCode !== null) break;
      await Bun.sleep(POLL_MS);
    }
    const log = join(this.#options.runDirectory, "mount-server.log");
    throw new NydusError(
      "unavailable",
      `Cannot start the mount process: it did not become ready; see "${log}"`,
    );
  }

  async #keep(): Promise<void> {
    this.#kept.update(await this.#client.sessions());
    if (this.#watched) return;
    this.#watched = true;
    void this.#watch();
  }

  /** One for as long as the process lives, through its restarts. */
  async #watch(): Promise<void> {
    for (let wait = 0; ; ) {
      const since = performance.now();
      const how = await this.#client.gone().catch(() => "died" as const);
      if (this.#disposed) return;
      if (how === "ended") break;
      // The connection may end before the process does.
      if ((await this.#ifRunning(() => this.#client.ping(), 0)) > 0) continue;
      wait = performance.now() - since > STABLE_MS ? 0 : Math.min(Math.max(wait * 2, 50), MOST_WAIT_MS);
      this.#options.log.warn("the mount process died; starting it again", { waitMs: wait });
      await Bun.sleep(wait);
      await this.#start().catch((error: unknown) =>
        this.#options.log.error(toNydusError(error, "restart").message),
      );
    }
    this.#watched = false;
    this.#kept[Symbol.dispose]();
    this.#ended.resolve();
  }

  /** The process goes on: containers read through it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#kept[Symbol.dispose]();
    await Promise.resolve();
  }
}
