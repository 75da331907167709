/**
 * The process that serves mounts, as the one that needs them sees it: started when first needed, found again after a
 * restart of either, and started again, with its file systems intact, when it is killed.
 *
 * @module
 */
import { isCode, toNydusError } from "../base/error.ts";
import type { LoggedEvent } from "../base/event-log.ts";
import type { Logger } from "../base/log.ts";
import { RestartPause } from "../base/restart-pause.ts";
import { entryPoint } from "../base/self.ts";
import type { DescriptorStore } from "../base/service-manager.ts";
import { CacheDirectory } from "../blob/cache-directory.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
import type { RegistryAccess } from "../registry/access.ts";
import type { BrokenMount } from "./broken-mounts.ts";
import { collectCache, type NeededCache } from "./cache-garbage.ts";
import { ControlClient } from "./control-client.ts";
import type { Controller } from "./controller.ts";
import type { ImageReads } from "./image-mounts.ts";
import { KeptDescriptors } from "./kept-descriptors.ts";
import type { Driver, MountRequest, MountStatus, PrefetchPolicy } from "./mount-request.ts";
import { becomeWith, type Program } from "./program.ts";
import { brokenMounts, controlSocket, isForgettable, isLocked, servesItself } from "./run-directory.ts";
import { START_TIMEOUT_MS, startServer } from "./start-server.ts";

const LEAVE_POLL_MS = 10;
const LOOK_MS = 20;

export interface MountServerOptions {
  /** For the socket, the device directory and the log; root's alone. */
  readonly runDirectory: string;
  readonly cacheDirectory: string;
  /** Bytes of data in the cache; without it, as much as there is room. */
  readonly cacheSize?: number | undefined;
  /** Milliseconds that unneeded data stays in the cache. */
  readonly cacheGrace?: number;
  readonly driver: Driver;
  /** How the registries of images are reached that are named by a reference only. */
  readonly access?: RegistryAccess;
  /** How data of those images is fetched ahead. */
  readonly prefetch?: PrefetchPolicy;
  /** containerd's socket: blobs that its content store has are read from there. */
  readonly contentAddress?: string;
  /** Seconds without any mount after which the process ends by itself. */
  readonly idleSeconds?: number;
  /** Our own verb and flags, with which the mount server starts us again; absent when somebody else does that. */
  readonly restartWith?: readonly string[];
  /** The same, for when this process itself becomes another version of the program. */
  readonly resumeWith: readonly string[];
  /** Descriptors that this process was started with: file systems that wait for a server. */
  readonly inherited?: ReadonlyMap<string, number>;
  /** What this process may lose and the other one keeps a copy of, in its memory only. */
  readonly secrets?: KeptSecrets;
  /** Keeps them when this process and the mount server both end. */
  readonly store?: DescriptorStore | undefined;
  readonly log: Logger;
}

/** Long enough for an image that is replaced by its next version; short enough for a disk that is full. */
export const DEFAULT_CACHE_GRACE = 600_000;

export interface KeptSecrets {
  export(): unknown;
  /** Adds what the other process kept; called once, also when there was none. */
  import(saved: unknown): void;
  onChange(listener: () => void): void;
}

export interface ImageMountRequest {
  /** Mounting the same id again is a no-op when it is already mounted. */
  readonly id: string;
  /** Absolute path of the unpacked bootstrap (image/image.boot). */
  readonly bootstrap: string;
  /** What the image is, unless it is a Nydus image. */
  readonly format?: string;
  readonly mountpoint: string;
  /** The image reference as containerd knows it: the blobs are in its repository. */
  readonly reference: string;
  /** containerd's namespace that has the image: its content store may have blobs of it. */
  readonly namespace?: string;
}

export class MountServer implements AsyncDisposable {
  readonly #options: MountServerOptions;
  readonly #client: ControlClient;
  readonly #kept: KeptDescriptors;
  readonly #ended = Promise.withResolvers<void>();
  #starting: Promise<void> | undefined;
  /** Whether we looked for what an earlier one of us left. */
  #attached = false;
  #watched = false;
  #disposed = false;

  constructor(options: MountServerOptions) {
    this.#options = options;
    this.#kept = new KeptDescriptors(options.inherited ?? new Map(), options.store);
    this.#client = new ControlClient(controlSocket(options.runDirectory));
    options.secrets?.onChange(() => void this.#depositSecrets());
  }

  /** Resolves when the process ended by itself: it had nothing to serve, or was asked to stop. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /**
   * Takes over what an earlier one of us left: watches the mount process, or starts one for the file systems that were
   * kept without it.
   *
   * @returns whether there is anything to watch
   */
  async attach(): Promise<boolean> {
    const { runDirectory, secrets, log } = this.#options;
    await this.#whileStarting();
    const saved = await this.#ifRunning(() => this.#client.secrets(), []);
    secrets?.import(saved);
    this.#attached = true;
    if (await this.#ifRunning(() => this.#keep().then(() => true), false)) return true;
    if (this.#kept.all.size === 0 && !servesItself(runDirectory)) return false;
    // It may be killed while it starts, too: then the watch goes on trying.
    await this.#start().catch((error: unknown) => log.error(toNydusError(error, "restart").message));
    this.#beginWatch();
    return true;
  }

  /** Somebody who died since may have started one that does not answer yet. One that dies instead lets go of the lock. */
  async #whileStarting(): Promise<void> {
    for (let waited = 0; waited < START_TIMEOUT_MS; waited += LOOK_MS) {
      if (!isLocked(this.#options.runDirectory) || (await this.#answers())) return;
      await Bun.sleep(LOOK_MS);
    }
  }

  async mount(request: ImageMountRequest): Promise<MountStatus> {
    const { reference, namespace, ...rest } = request;
    const { driver, access, contentAddress, prefetch } = this.#options;
    const local =
      contentAddress === undefined || namespace === undefined
        ? {}
        : { localFirst: true, containerd: { address: contentAddress, namespace } };
    const source = { location: reference, ...access, ...local };
    const ahead = prefetch === undefined ? {} : { prefetch };
    return await this.mountAs({ ...rest, source, driver, ...ahead });
  }

  async mountAs(request: MountRequest): Promise<MountStatus> {
    const status = await this.#started(() => this.#client.mount(request));
    await this.#keep();
    return status;
  }

  /** Starts the process, which takes a tenth of a second, before it is needed. */
  async warm(): Promise<void> {
    await this.#started(() => this.#client.ping());
  }

  /** Does ahead of a mount what it will need: the process runs, and the bootstrap is checked. */
  async check(bootstrap: string): Promise<void> {
    await this.#started(() => this.#client.check(bootstrap));
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
    const list = await this.#ifRunning(() => this.#client.list(), []);
    // One that was not there yet when we looked: nobody else watches it.
    if (list.length > 0 && this.#attached && !this.#watched)
      await this.#ifRunning(() => this.#keep(), undefined);
    return list;
  }

  /** Empty while the process is not running. */
  async caches(): Promise<readonly CacheStatus[]> {
    return await this.#ifRunning(async () => [await this.#client.cache()], []);
  }

  /** @throws not_found */
  async reads(id: string): Promise<ImageReads> {
    return await this.#client.reads(id);
  }

  /** Mounts of earlier processes whose reads fail. */
  async broken(): Promise<readonly BrokenMount[]> {
    return await brokenMounts(this.#options.runDirectory);
  }

  /** What the process has told in its log lately. */
  async events(): Promise<readonly LoggedEvent[]> {
    return await this.#ifRunning(() => this.#client.events(), []);
  }

  /** Asked of the disk: data stays there while nothing is mounted. */
  async cacheUsage(blobId: string): Promise<number> {
    return new CacheDirectory(this.#options.cacheDirectory).usage(blobId);
  }

  /** Works without the process, whose files are locked. */
  async collect(needed: NeededCache): Promise<void> {
    const { cacheDirectory, cacheGrace = DEFAULT_CACHE_GRACE, log } = this.#options;
    const removed = await collectCache(cacheDirectory, needed, { grace: cacheGrace });
    if (removed.length > 0) log.info("removed from the cache what no image needs", { files: removed.length });
  }

  /** From now on the process is not started again: whoever stops us may stop it too. */
  letGo(): void {
    this.#disposed = true;
  }

  /** Ends the process if it has nothing to serve. @returns whether nothing is left of it but its directory */
  async stopIfIdle(): Promise<boolean> {
    const list = await this.#ifRunning(() => this.#client.list(), undefined);
    // Not running, it may have left mounts to the next start.
    if (list === undefined) return isForgettable(this.#options.runDirectory);
    if (list.length > 0) return false;
    await this.stop();
    return true;
  }

  /** Unmounts everything and ends the process. */
  async stop(): Promise<void> {
    // Nobody watches a process whose first mount failed.
    const watched = this.#watched && !this.#disposed;
    const gone = watched ? this.ended : this.#client.gone().catch(() => {});
    const running = await this.#ifRunning(async () => {
      await this.#client.stop();
      return true;
    }, false);
    if (running || watched) await Promise.race([gone, Bun.sleep(START_TIMEOUT_MS)]);
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

  async #spawn(program?: Program): Promise<void> {
    const { log, runDirectory, cacheDirectory, cacheSize, idleSeconds } = this.#options;
    const idle = idleSeconds === undefined ? {} : { idleSeconds };
    const kept = this.#kept.all;
    const controller = this.#controller;
    const other = program === undefined ? {} : { program };
    const setup = { runDirectory, cacheDirectory, cacheSize, controller, kept, ...idle, ...other };
    const pid = await startServer(this.#client, setup);
    // Perhaps not the one that we started, but one that somebody else has.
    await this.#ifRunning(() => this.#takeControl(), undefined);
    log.info("started the mount process", { pid, adopted: kept.size });
  }

  /** A process that is not there gets them when it is started. */
  async #depositSecrets(): Promise<void> {
    const { secrets, log } = this.#options;
    if (secrets === undefined) return;
    await this.#ifRunning(() => this.#client.keepSecrets(secrets.export()), undefined).catch(
      (error: unknown) => log.warn(toNydusError(error, "hand over credentials").message),
    );
  }

  /** This process, as the other one is to keep it running. */
  get #controller(): Controller {
    const { restartWith } = this.#options;
    const words = restartWith === undefined ? {} : { words: [...entryPoint(), ...restartWith] };
    return { pid: process.pid, ...words };
  }

  /** Holds what the process serves. Whom we watch for the first time must know it: it watches us, too. */
  async #keep(): Promise<void> {
    if (!this.#watched) await this.#takeControl();
    const sessions = await this.#client.sessions();
    try {
      this.#kept.update(sessions);
    } catch (error) {
      if (!isCode(error, "denied")) throw error;
      // Better served by one process that may not die than not at all.
      this.#options.log.warn(`${error.message}; should it be killed, their reads fail`);
    }
    this.#beginWatch();
  }

  async #takeControl(): Promise<void> {
    await this.#client.control(this.#controller);
    await this.#depositSecrets();
  }

  #beginWatch(): void {
    if (this.#watched) return;
    this.#watched = true;
    void this.#watch();
  }

  /** Never fails: whoever answers badly is not there. */
  async #answers(): Promise<boolean> {
    return (await this.#client.ping().catch(() => 0)) > 0;
  }

  /** One for as long as the process lives, through its restarts. */
  async #watch(): Promise<void> {
    const pause = new RestartPause();
    for (;;) {
      const since = performance.now();
      const how = await this.#client.gone(this.#upgrade).catch(() => "died" as const);
      if (this.#disposed) return;
      if (how === "ended") break;
      // The connection may end before the process does.
      if (await this.#answers()) continue;
      const wait = pause.after(performance.now() - since);
      this.#options.log.warn("the mount process died; starting it again", { waitMs: wait });
      await Bun.sleep(wait);
      // What the new one could not go on with ends here, too: held but not served, its readers would wait for ever.
      await this.#start()
        .then(() => this.#keep())
        .catch((error: unknown) => this.#options.log.error(toNydusError(error, "restart").message));
    }
    this.#watched = false;
    this.#kept.forget();
    this.#ended.resolve();
  }

  /** First the serving process, then this one goes on as the program; back again when the former does not come up. */
  readonly #upgrade = (program: Program): void => {
    this.#starting ??= this.#replace(program)
      .catch((error: unknown) => this.#options.log.error(toNydusError(error, "upgrade").message))
      .finally(() => {
        this.#starting = undefined;
      });
  };

  async #replace(program: Program): Promise<void> {
    const { log, resumeWith } = this.#options;
    log.info("upgrading", { program: program[0] });
    this.#kept.update(await this.#client.sessions());
    await this.#client.leave();
    for (let waited = 0; waited < START_TIMEOUT_MS; waited += LEAVE_POLL_MS) {
      if (!(await this.#answers())) break;
      await Bun.sleep(LEAVE_POLL_MS);
    }
    try {
      await this.#spawn(program);
    } catch (error) {
      log.error("going back to the old version", { reason: toNydusError(error, "upgrade").message });
      return await this.#spawn();
    }
    becomeWith(program, resumeWith, this.#kept.all);
  }

  /** The process goes on: containers read through it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#kept[Symbol.dispose]();
    await this.#ifRunning(() => this.#client.release(process.pid), undefined);
  }
}
