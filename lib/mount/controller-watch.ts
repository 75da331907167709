/**
 * Keeps the controlling process running, from inside the mount server that it keeps running: whichever of the two is
 * killed, the other starts it again.
 *
 * @module
 */
import { closeSync, openSync, readFileSync, readlinkSync } from "node:fs";
import { close, pidfdOpen } from "../../ffi/libc.ts";
import { hasExited } from "../../ffi/process.ts";
import { toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { RestartPause } from "../base/restart-pause.ts";
import { PROGRAM_NAME } from "../base/self.ts";
import type { Environment } from "../base/systemd.ts";
import type { Controller } from "./controller.ts";
import { environmentWith } from "./inherited-descriptors.ts";

/** How often to look. One poll(2) costs some microseconds. */
const LOOK_MS = 200;

/** What is needed to start a process again, read while it was alive. */
interface Origin {
  /** Its program, held open: the file may be replaced or removed. */
  readonly program: number;
  readonly directory: string;
  readonly environment: Environment;
}

interface Watched {
  readonly controller: Controller;
  readonly pidfd: number;
  readonly origin: Origin;
  /** By `performance.now()`. */
  readonly since: number;
}

export class ControllerWatch implements Disposable {
  readonly #sessions: () => ReadonlyMap<string, number>;
  readonly #log: Logger;
  readonly #timer: ReturnType<typeof setInterval>;
  #pause = new RestartPause();
  #watched: Watched | undefined;
  /** When to start it again, while it is dead. */
  #restartAt: number | undefined;

  /** @param sessions what the other one must hold from its first moment, in case we die in its second */
  constructor(sessions: () => ReadonlyMap<string, number>, log: Logger) {
    this.#sessions = sessions;
    this.#log = log;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** A process takes control, or one that was started again reports. */
  register(controller: Controller): void {
    const { pid } = controller;
    const known = this.#watched?.controller.pid === pid ? this.#watched : undefined;
    if (known === undefined) this.#pause = new RestartPause();
    const since = known?.since ?? performance.now();
    this.#replace({ controller, pidfd: pidfdOpen(pid), origin: originOf(pid), since });
  }

  /** It ends on purpose. */
  release(pid: number): void {
    if (this.#watched?.controller.pid === pid) this.#replace(undefined);
  }

  /** The process that holds our descriptors and starts a successor, if there is one. */
  get pid(): number | undefined {
    return this.#watched?.controller.pid;
  }

  #replace(watched: Watched | undefined): void {
    if (this.#watched !== undefined) {
      close(this.#watched.pidfd);
      if (this.#watched.origin !== watched?.origin) closeSync(this.#watched.origin.program);
    }
    this.#watched = watched;
    this.#restartAt = undefined;
  }

  #look(): void {
    const watched = this.#watched;
    if (watched?.controller.words === undefined || !hasEnded(watched)) return;
    const now = performance.now();
    this.#restartAt ??= now + this.#pause.after(now - watched.since);
    if (now >= this.#restartAt) this.#restart(watched, watched.controller.words);
  }

  #restart(watched: Watched, words: readonly string[]): void {
    const { origin } = watched;
    const sessions = this.#sessions();
    this.#restartAt = undefined;
    try {
      const child = Bun.spawn([`/proc/${process.pid}/fd/${origin.program}`, ...words], {
        argv0: PROGRAM_NAME,
        cwd: origin.directory,
        env: environmentWith(origin.environment, sessions),
        stdio: ["ignore", "inherit", "inherit", ...sessions.values()],
        detached: true,
      });
      child.unref();
      this.#log.warn("the controlling process died; started it again", { pid: child.pid });
      this.#replace({
        controller: { pid: child.pid, words },
        pidfd: pidfdOpen(child.pid),
        origin,
        since: performance.now(),
      });
    } catch (error) {
      // Perhaps its working directory is gone.
      this.#watched = { ...watched, origin: { ...origin, directory: "/" }, since: performance.now() };
      this.#log.error(toNydusError(error, "start the controlling process again").message);
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#replace(undefined);
  }
}

function hasEnded({ pidfd }: Watched): boolean {
  return pidfd < 0 || hasExited(pidfd);
}

/** One that died before we looked had our program: nobody else could have named it to us yet. */
function originOf(pid: number): Origin {
  try {
    return readOrigin(pid);
  } catch {
    return readOrigin(process.pid);
  }
}

function readOrigin(pid: number): Origin {
  const directory = readlinkSync(`/proc/${pid}/cwd`);
  const environment = parseEnvironment(readFileSync(`/proc/${pid}/environ`, "utf8"));
  return { directory, environment, program: openSync(`/proc/${pid}/exe`, "r") };
}

/** proc(5): "NAME=value", each with a NUL behind it. */
function parseEnvironment(text: string): Environment {
  const entries = text.split("\0").flatMap((entry) => {
    const at = entry.indexOf("=");
    return at < 1 ? [] : [[entry.slice(0, at), entry.slice(at + 1)] as const];
  });
  return Object.fromEntries(entries);
}
