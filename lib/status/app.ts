/**
 * The status endpoint: read-only, no secrets. Whatever would change something answers 405; it belongs to the control
 * socket, which is root's alone.
 *
 *     GET /                   a page for people, and what belongs to it (page/routes.ts)
 *     GET /healthz            "ok"
 *     GET /metrics            Prometheus' text format
 *     GET /api/v1/mounts      [MountStatus]
 *     GET /api/v1/broken      [BrokenMount]: mounts whose reads fail, as everybody who could serve them died
 *     GET /api/v1/caches      [CacheStatus], one a process that serves mounts
 *     GET /api/v1/snapshots   [SnapshotStatus]; 404 where no snapshotter runs
 *
 * @module
 */
import { Hono } from "hono";
import { brokenMetrics, cacheMetrics, mountMetrics, operationMetrics, snapshotMetrics } from "./metrics.ts";
import { pageRoutes } from "./page/routes.ts";
import type { StatusSource } from "./source.ts";

/** Names of images come from outside: even if one were not escaped, nothing would run or load. */
const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-store",
};

const PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8";

export function statusApp(source: StatusSource): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    if (context.req.method !== "GET" && context.req.method !== "HEAD")
      return context.json({ message: "this endpoint is read-only" }, 405, { allow: "GET, HEAD" });
    await next();
    for (const [name, value] of Object.entries(HEADERS)) context.header(name, value);
    return undefined;
  });
  app.route("/", pageRoutes(source));
  app.get("/healthz", (context) => context.text("ok\n"));
  app.get("/api/v1/mounts", async (context) => context.json(await source.mounts()));
  app.get("/api/v1/broken", async (context) => context.json((await source.broken?.()) ?? []));
  app.get("/api/v1/caches", async (context) => context.json((await source.caches?.()) ?? []));
  app.get("/api/v1/snapshots", async (context) => {
    if (source.snapshots === undefined) return context.json({ message: "no snapshotter runs here" }, 404);
    return context.json(await source.snapshots());
  });
  app.get("/metrics", async (context) => {
    const parts = [
      mountMetrics(await source.mounts()),
      source.broken === undefined ? "" : brokenMetrics(await source.broken()),
      source.caches === undefined ? "" : cacheMetrics(await source.caches()),
      source.snapshots === undefined ? "" : snapshotMetrics(await source.snapshots()),
      source.operations === undefined ? "" : operationMetrics(source.operations()),
    ];
    return context.body(parts.join(""), 200, { "content-type": PROMETHEUS });
  });
  return app;
}
