/**
 * The control socket of a process that serves mounts: HTTP on a unix socket that only root may open.
 *
 *     POST   /mounts              a MountRequest; answers its MountStatus
 *     GET    /mounts              all MountStatus
 *     GET    /mounts/ID/reads     ImageReads, or 404
 *     DELETE /mounts/ID[?detach]  204, or 404
 *     POST   /check               {"bootstrap": path}; 204 when it may be mounted
 *     GET    /cache               CacheStatus
 *     GET    /events              [LoggedEvent], the oldest first
 *     POST   /scrub               reads back what is cached of mounted images; answers ScrubCounts of this scrub
 *     GET    /healthz             {"pid": n}
 *     GET    /sessions            {"pid": n, "sessions": {key: fd}}: descriptors worth keeping
 *     GET    /alive               never ends while the process lives; its last line is "end" if it ends by itself
 *                                 line "upgrade [program]" asks the controlling process to go on as that program
 *     POST   /upgrade             [program, word...]; 204 when the controlling process was asked
 *     POST   /leave               204, then the process ends and leaves all mounted to a successor
 *     GET    /controller          {"pid": n}, or {}
 *     PUT    /controller          a Controller: who watches this process, and is watched by it
 *     DELETE /controller/PID      it ends on purpose
 *     PUT    /secrets             any JSON, kept in memory for whoever takes control next
 *     GET    /secrets             the same; [] when nobody left any
 *     POST   /stop                204, then the process unmounts all and ends
 *
 * @module
 */
import { chmodSync, rmSync } from "node:fs";
import { Hono } from "hono";
import { type ErrorCode, MEANINGS, NydusError, toNydusError } from "../base/error.ts";
import type { EventLog } from "../base/event-log.ts";
import { type Controller, parseController } from "./controller.ts";
import type { ImageMounts } from "./image-mounts.ts";
import { parseMountRequest } from "./mount-request.ts";
import { parseProgram } from "./program.ts";

/** HTTP has no word for most of our codes, so the body carries the code and the status only success or not. */
export interface ControlError {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface ControlOptions {
  /** Asked to unmount all and end. */
  readonly stop: () => void;
  /** Asked to end and leave all to a successor. */
  readonly leave: () => void;
  readonly controllers: Controllers;
  readonly events?: EventLog;
  /** Called after each unmount. */
  readonly umounted?: () => void;
  /** Aborted when the process has let go of everything and ends by itself. */
  readonly ending: AbortSignal;
}

interface Controllers {
  /** The process that controls this one. */
  readonly pid: number | undefined;
  register(controller: Controller): void;
  release(pid: number): void;
}

export function controlApp(mounts: ImageMounts, options: ControlOptions): Hono {
  const { stop, umounted, ending, controllers, events } = options;
  const app = new Hono();
  let secrets: unknown = [];
  app.onError((error, context) => {
    const { code, message } = toNydusError(error, "serve the request");
    return context.json({ code, message } satisfies ControlError, code === "not_found" ? 404 : 500);
  });
  app.get("/healthz", (context) => context.json({ pid: process.pid }));
  app.get("/mounts", (context) => context.json(mounts.list()));
  app.post("/mounts", async (context) =>
    context.json(await mounts.mount(parseMountRequest(await context.req.json()))),
  );
  app.get("/mounts/:id/reads", (context) => context.json(mounts.reads(context.req.param("id"))));
  app.get("/events", (context) => context.json(events?.list() ?? []));
  app.delete("/mounts/:id", async (context) => {
    const id = context.req.param("id");
    const detach = context.req.query("detach") !== undefined;
    if (await mounts.umount(id, { detach })) {
      // After the answer is on its way: the process may have nothing left to live for.
      setTimeout(() => umounted?.(), 0);
      return context.body(null, 204);
    }
    throw new NydusError("not_found", `Cannot unmount "${id}": there is no such mount`);
  });
  app.post("/check", async (context) => {
    const { bootstrap } = (await context.req.json()) as { bootstrap?: unknown };
    await mounts.check(String(bootstrap));
    return context.body(null, 204);
  });
  app.get("/cache", (context) => context.json(mounts.cache.status));
  app.post("/scrub", async (context) => context.json(await mounts.scrub()));
  app.get("/sessions", (context) =>
    context.json({ pid: process.pid, sessions: Object.fromEntries(mounts.sessions) } satisfies KeptSessions),
  );
  const announcements = new Announcements();
  app.get("/alive", (context) => context.body(aliveBody(ending, announcements)));
  app.post("/upgrade", async (context) => {
    const program = parseProgram(await context.req.json());
    if (controllers.pid === undefined)
      throw new NydusError(
        "busy",
        "Cannot upgrade: no process controls these mounts; start the snapshotter first",
      );
    announcements.say(`${UPGRADE}${JSON.stringify(program)}`);
    return context.body(null, 204);
  });
  app.post("/leave", (context) => {
    setTimeout(options.leave, 0);
    return context.body(null, 204);
  });
  app.get("/controller", (context) => context.json({ pid: controllers.pid }));
  app.put("/controller", async (context) => {
    controllers.register(parseController(await context.req.json()));
    return context.body(null, 204);
  });
  app.delete("/controller/:pid", (context) => {
    controllers.release(Number(context.req.param("pid")));
    return context.body(null, 204);
  });
  app.put("/secrets", async (context) => {
    secrets = await context.req.json();
    return context.body(null, 204);
  });
  app.get("/secrets", () => Response.json(secrets));
  app.post("/stop", (context) => {
    setTimeout(stop, 0);
    return context.body(null, 204);
  });
  return app;
}

export interface KeptSessions {
  readonly pid: number;
  readonly sessions: Readonly<Record<string, number>>;
}

export const LAST_WORD = "end";
export const UPGRADE = "upgrade ";

/** Lines for whoever watches this process: one that was just started does not yet, and gets the last line when it does. */
class Announcements {
  readonly #listeners = new Set<(line: string) => void>();
  #unheard: string | undefined;

  say(line: string): void {
    this.#unheard = this.#listeners.size === 0 ? line : undefined;
    for (const listener of this.#listeners) listener(line);
  }

  listen(listener: (line: string) => void): void {
    this.#listeners.add(listener);
    const line = this.#unheard;
    this.#unheard = undefined;
    if (line !== undefined) listener(line);
  }

  leave(listener: (line: string) => void): void {
    this.#listeners.delete(listener);
  }
}

/** The HTTP server cuts a body that is silent for ten seconds. */
const HEARTBEAT_MS = 3000;

function aliveBody(ending: AbortSignal, announcements: Announcements): ReadableStream<Uint8Array> {
  let beat: ReturnType<typeof setInterval> | undefined;
  let announce: (line: string) => void = () => {};
  return new ReadableStream({
    start(controller) {
      const end = (): void => {
        clearInterval(beat);
        controller.enqueue(Buffer.from(`\n${LAST_WORD}\n`));
        controller.close();
      };
      controller.enqueue(Buffer.from("alive\n"));
      if (ending.aborted) return end();
      ending.addEventListener("abort", end, { once: true });
      announce = (line) => controller.enqueue(Buffer.from(`\n${line}\n`));
      announcements.listen(announce);
      beat = setInterval(() => controller.enqueue(Buffer.from(".")), HEARTBEAT_MS);
    },
    cancel() {
      announcements.leave(announce);
      clearInterval(beat);
    },
  });
}

export interface ControlServer extends AsyncDisposable {
  readonly socket: string;
  /** Requests that are not answered yet; whoever only watches has been. */
  readonly underWay: number;
  /** Lets nobody new in; who watches the process goes on doing so. */
  retire(): void;
}

export function serveControl(socket: string, app: Hono): ControlServer {
  rmSync(socket, { force: true });
  let retired = false;
  let underWay = 0;
  const server = Bun.serve({
    unix: socket,
    fetch: async (request, server) => {
      // Some answers take as long as reading a whole cache.
      server.timeout(request, 0);
      // A connection may be older than the decision to end.
      if (retired) return gone();
      underWay++;
      try {
        return await app.fetch(request);
      } finally {
        underWay--;
      }
    },
  });
  chmodSync(socket, 0o600);
  const retire = (): void => {
    if (!retired) rmSync(socket, { force: true });
    retired = true;
  };
  return {
    socket,
    get underWay() {
      return underWay;
    },
    retire,
    async [Symbol.asyncDispose]() {
      retire();
      await server.stop();
    },
  };
}

function gone(): Response {
  const body: ControlError = { code: "unavailable", message: "Cannot reach the mount process: it is ending" };
  return Response.json(body, { status: 503 });
}

export function errorOfControl(body: unknown, status: number): NydusError {
  const { code, message } = (typeof body === "object" && body !== null ? body : {}) as Partial<ControlError>;
  const known = code !== undefined && Object.hasOwn(MEANINGS, code) ? code : "internal";
  return new NydusError(known, message ?? `Cannot talk to the mount process: it answered ${status}`);
}
