/**
 * Talks to a control socket (`control.ts`).
 *
 * @module
 */
import { NydusError } from "../base/error.ts";
import type { LoggedEvent } from "../base/event-log.ts";
import type { CacheStatus } from "../blob/cache-status.ts";
import type { ScrubCounts } from "../blob/scrub.ts";
import { errorOfControl, type KeptSessions, LAST_WORD, UPGRADE } from "./control.ts";
import type { Controller } from "./controller.ts";
import type { ImageReads } from "./image-mounts.ts";
import type { MountRequest, MountStatus } from "./mount-request.ts";
import { type Program, parseProgram } from "./program.ts";

export class ControlClient {
  readonly socket: string;

  constructor(socket: string) {
    this.socket = socket;
  }

  async mount(request: MountRequest): Promise<MountStatus> {
    return (await this.#call("POST", "/mounts", request)) as MountStatus;
  }

  async list(): Promise<readonly MountStatus[]> {
    return (await this.#call("GET", "/mounts")) as readonly MountStatus[];
  }

  /** @throws not_found, busy */
  async umount(id: string, options: { readonly detach?: boolean } = {}): Promise<void> {
    await this.#call(
      "DELETE",
      `/mounts/${encodeURIComponent(id)}${options.detach === true ? "?detach" : ""}`,
    );
  }

  /** @throws corrupt and others when the bootstrap must not be mounted */
  async check(bootstrap: string): Promise<void> {
    await this.#call("POST", "/check", { bootstrap });
  }

  /** @throws not_found */
  async reads(id: string): Promise<ImageReads> {
    return (await this.#call("GET", `/mounts/${encodeURIComponent(id)}/reads`)) as ImageReads;
  }

  async events(): Promise<readonly LoggedEvent[]> {
    return (await this.#call("GET", "/events")) as readonly LoggedEvent[];
  }

  async cache(): Promise<CacheStatus> {
    return (await this.#call("GET", "/cache")) as CacheStatus;
  }

  /** Takes as long as reading the cache does. */
  async scrub(): Promise<ScrubCounts> {
    return (await this.#call("POST", "/scrub")) as ScrubCounts;
  }

  /** @returns the process id. @throws unavailable when nobody listens */
  async ping(): Promise<number> {
    const { pid } = (await this.#call("GET", "/healthz")) as { pid: number };
    return pid;
  }

  async sessions(): Promise<KeptSessions> {
    return (await this.#call("GET", "/sessions")) as KeptSessions;
  }

  async secrets(): Promise<unknown> {
    return await this.#call("GET", "/secrets");
  }

  async keepSecrets(secrets: unknown): Promise<void> {
    await this.#call("PUT", "/secrets", secrets);
  }

  async control(controller: Controller): Promise<void> {
    await this.#call("PUT", "/controller", controller);
  }

  async release(pid: number): Promise<void> {
    await this.#call("DELETE", `/controller/${pid}`);
  }

  /**
   * Resolves when the process is gone: "ended" by itself, or "died".
   *
   * @param upgrade called when somebody asks for it
   * @throws unavailable when nobody listens
   */
  async gone(upgrade?: (program: Program) => void): Promise<"ended" | "died"> {
    const response = await this.#fetch("GET", "/alive");
    if (!response.ok) throw errorOfControl(await this.#read(response), response.status);
    let text = "";
    let last = "";
    try {
      for await (const bytes of response.body ?? []) {
        const lines = (text + Buffer.from(bytes).toString("utf8")).split("\n");
        text = lines.pop() ?? "";
        for (const line of lines) {
          last = line.replace(/^\.*/, "");
          if (last.startsWith(UPGRADE)) upgrade?.(parseProgram(JSON.parse(last.slice(UPGRADE.length))));
        }
      }
    } catch {
      return "died";
    }
    return last === LAST_WORD ? "ended" : "died";
  }

  /** Of the process that keeps this one running, if any does. */
  async controller(): Promise<number | undefined> {
    return ((await this.#call("GET", "/controller")) as { pid?: number }).pid;
  }

  /** Returns at once. @throws busy when nobody is there to do it */
  async upgrade(program: Program): Promise<void> {
    await this.#call("POST", "/upgrade", program);
  }

  /** Leaves everything mounted to a successor. */
  async leave(): Promise<void> {
    await this.#call("POST", "/leave");
  }

  async stop(): Promise<void> {
    await this.#call("POST", "/stop");
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await this.#fetch(method, path, body);
    const value = await this.#read(response);
    if (!response.ok) throw errorOfControl(value, response.status);
    return value;
  }

  /** A process that is killed in the middle of its answer is as good as one that gave none. */
  async #read(response: Response): Promise<unknown> {
    try {
      const text = await response.text();
      return text === "" ? undefined : JSON.parse(text);
    } catch (cause) {
      throw this.#unavailable("it did not end its answer", cause);
    }
  }

  async #fetch(method: string, path: string, body?: unknown): Promise<Response> {
    try {
      return await fetch(`http://mount${path}`, {
        method,
        unix: this.socket,
        timeout: false,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (cause) {
      throw this.#unavailable("nobody answers", cause);
    }
  }

  #unavailable(why: string, cause: unknown): NydusError {
    return new NydusError("unavailable", `Cannot reach the mount process at "${this.socket}": ${why}`, {
      cause,
    });
  }
}
