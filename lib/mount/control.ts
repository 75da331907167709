/**
 * The control socket of a process that serves mounts: HTTP on a unix socket that only root may open.
 *
 *     POST   /mounts              a MountRequest; answers its MountStatus
 *     GET    /mounts              all MountStatus
 *     DELETE /mounts/ID[?detach]  204, or 404
 *     GET    /blobs/HEX/usage     {"bytes": n}
 *     POST   /collect             {"keep": [hex, ...]}; answers {"removed": [hex, ...]}
 *     GET    /healthz             {"pid": n}
 *     POST   /stop                204, then the process unmounts all and ends
 *
 * @module
 */
import { chmodSync, rmSync } from "node:fs";
import { Hono } from "hono";
import { type ErrorCode, MEANINGS, NydusError, toNydusError } from "../base/error.ts";
import type { ImageMounts } from "./image-mounts.ts";
import { parseMountRequest } from "./mount-request.ts";

/** HTTP has no word for most of our codes, so the body carries the code and the status only success or not. */
export interface ControlError {
  readonly code: ErrorCode;
  readonly message: string;
}

export function controlApp(mounts: ImageMounts, stop: () => void): Hono {
  const app = new Hono();
  app.onError((error, context) => {
    const { code, message } = toNydusError(error, "serve the request");
    return context.json({ code, message } satisfies ControlError, code === "not_found" ? 404 : 500);
  });
  app.get("/healthz", (context) => context.json({ pid: process.pid }));
  app.get("/mounts", (context) => context.json(mounts.list()));
  app.post("/mounts", async (context) =>
    context.json(await mounts.mount(parseMountRequest(await context.req.json()))),
  );
  app.delete("/mounts/:id", async (context) => {
    const id = context.req.param("id");
    const detach = context.req.query("detach") !== undefined;
    if (await mounts.umount(id, { detach })) return context.body(null, 204);
    throw new NydusError("not_found", `Cannot unmount "${id}": there is no such mount`);
  });
  app.get("/blobs/:id/usage", (context) =>
    context.json({ bytes: mounts.cache.usage(context.req.param("id")) }),
  );
  app.post("/collect", async (context) => {
    const body = (await context.req.json()) as { keep?: unknown };
    const keep = Array.isArray(body.keep)
      ? body.keep.filter((id): id is string => typeof id === "string")
      : [];
    return context.json({ removed: mounts.cache.collect(new Set(keep)) });
  });
  app.post("/stop", (context) => {
    setTimeout(stop, 0);
    return context.body(null, 204);
  });
  return app;
}

export interface ControlServer extends AsyncDisposable {
  readonly socket: string;
}

export function serveControl(socket: string, app: Hono): ControlServer {
  rmSync(socket, { force: true });
  const server = Bun.serve({ unix: socket, fetch: app.fetch });
  chmodSync(socket, 0o600);
  return {
    socket,
    async [Symbol.asyncDispose]() {
      rmSync(socket, { force: true });
      await server.stop(true);
    },
  };
}

export function errorOfControl(body: unknown, status: number): NydusError {
  const { code, message } = (typeof body === "object" && body !== null ? body : {}) as Partial<ControlError>;
  const known = code !== undefined && Object.hasOwn(MEANINGS, code) ? code : "internal";
  return new NydusError(known, message ?? `Cannot talk to the mount process: it answered ${status}`);
}
