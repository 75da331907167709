/**
 * The node's mount process, as the snapshotter sees it: started when first needed, found again after a restart of
 * either, and left alone when the snapshotter ends, because containers read through it.
 *
 * @module
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { isCode, NydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { selfCommand } from "../base/self.ts";
import { ControlClient } from "./control-client.ts";
import type { Driver, MountStatus } from "./mount-request.ts";

const START_TIMEOUT_MS = 15_000;
const POLL_MS = 10;

export interface MountServerOptions {
  /** For the socket, the device directory and the log; root's alone. */
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  readonly driver: Driver;
  readonly plainHttp?: boolean;
  readonly insecure?: boolean;
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
  #starting: Promise<void> | undefined;

  constructor(options: MountServerOptions) {
    this.#options = options;
    this.#client = new ControlClient(controlSocket(options.runDirectory));
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
    return await this.#started(() => this.#client.mount({ id, bootstrap, mountpoint, source, driver }));
  }

  async umount(id: string): Promise<void> {
    try {
      await this.#client.umount(id);
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
    await this.#ifRunning(() => this.#client.stop(), undefined);
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
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    await this.#starting;
    return await work();
  }

  async #start(): Promise<void> {
    const { runDirectory, cacheDirectory, log } = this.#options;
    mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
    const output = openSync(join(runDirectory, "mount-server.log"), "a", 0o600);
    const [program = "", ...words] = selfCommand();
    const command = [
      program,
      ...words,
      "mount-server",
      "--run-dir",
      runDirectory,
      "--cache-dir",
      cacheDirectory,
    ];
    // Detached: its own session, so that ending the snapshotter (or its terminal) does not end it.
    const child = Bun.spawn(command, { stdio: ["ignore", output, output], detached: true, cwd: "/" });
    child.unref();
    closeSync(output);
    log.info("started the mount process", { pid: child.pid });
    await this.#ready(child);
  }

  async #ready(child: Bun.Subprocess): Promise<void> {
    for (let waited = 0; waited < START_TIMEOUT_MS; waited += POLL_MS) {
      if (await this.#ifRunning(() => this.#client.ping(), undefined)) return;
      if (child.exitCode !== null) break;
      await Bun.sleep(POLL_MS);
    }
    const log = join(this.#options.runDirectory, "mount-server.log");
    throw new NydusError(
      "unavailable",
      `Cannot start the mount process: it did not become ready; see "${log}"`,
    );
  }

  /** The process goes on: containers read through it. */
  async [Symbol.asyncDispose](): Promise<void> {}
}
