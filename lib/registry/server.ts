/**
 * The embedded registry: OCI distribution, reading and pushing, over one directory. The directory is an OCI layout that
 * all repositories share; a tag's name in its index is "repository:tag". For demonstrations, tests and small networks:
 * there is no authentication, so it belongs on loopback.
 *
 * Spec: distribution-spec/spec.md.
 *
 * @module
 */
import { join } from "node:path";
import { Hono } from "hono";
import { toNydusError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { OciLayout } from "../content/oci-layout.ts";
import { RegistryBlobs } from "./server-blobs.ts";
import { errorAnswer, RegistryFault } from "./server-errors.ts";
import { RegistryManifests } from "./server-manifests.ts";
import { Referrers } from "./server-referrers.ts";
import { Uploads } from "./uploads.ts";

export interface ServeOptions {
  /** Directory of the images; made if it does not exist. */
  readonly root: string;
  /** Default 127.0.0.1. */
  readonly hostname?: string;
  /** 0 or nothing = any free one. */
  readonly port?: number;
  readonly log?: Logger;
}

export interface ServedRegistry extends AsyncDisposable {
  /** "127.0.0.1:5000": what references start with. */
  readonly host: string;
  /** "http://127.0.0.1:5000" */
  readonly url: string;
  readonly port: number;
}

/** Layers may be of any size; Bun's own limit is 128 MiB. */
const BODY_LIMIT = 2 ** 44;

export async function serveRegistry(options: ServeOptions): Promise<ServedRegistry> {
  const hostname = options.hostname ?? "127.0.0.1";
  const app = await createRegistryApp(options.root, options.log);
  let server: ReturnType<typeof Bun.serve>;
  try {
    server = Bun.serve({
      hostname,
      port: options.port ?? 0,
      // Seconds; 0 = none: a slow reader is not an error.
      idleTimeout: 0,
      maxRequestBodySize: BODY_LIMIT,
      fetch: app.fetch,
    });
  } catch (error) {
    throw toNydusError(error, `serve a registry on "${hostname}:${options.port ?? 0}"`);
  }
  const port = server.port ?? 0;
  const host = `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
  return {
    host,
    url: `http://${host}`,
    port,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

/** The registry as a function from request to response; tests call it without a socket. */
export async function createRegistryApp(root: string, log?: Logger): Promise<Hono> {
  const layout = await OciLayout.open(root, { create: true });
  const blobs = new RegistryBlobs(layout, await Uploads.open(join(root, "uploads")));
  const manifests = new RegistryManifests(layout, new Referrers(join(root, "referrers")));
  const app = new Hono();

  app.use(async (context, next) => {
    await next();
    context.header("docker-distribution-api-version", "registry/2.0");
    log?.debug("request", {
      method: context.req.method,
      path: context.req.path,
      status: context.res.status,
    });
  });
  app.onError((error) => errorAnswer(error));
  app.notFound(() => errorAnswer(new RegistryFault(404, "NAME_UNKNOWN", "no such address")));

  app.get("/v2/", (context) => context.json({}));
  app.get("/v2", (context) => context.json({}));
  app.get("/v2/_catalog", () => manifests.catalog());
  app.post("/v2/:name{.+}/blobs/uploads/", (context) => blobs.start(context));
  app.get("/v2/:name{.+}/blobs/uploads/:id", (context) => blobs.progress(context));
  app.patch("/v2/:name{.+}/blobs/uploads/:id", (context) => blobs.append(context));
  app.put("/v2/:name{.+}/blobs/uploads/:id", (context) => blobs.finish(context));
  app.delete("/v2/:name{.+}/blobs/uploads/:id", (context) => blobs.cancel(context));
  // Hono answers HEAD through the handler of GET, without the body.
  app.get("/v2/:name{.+}/blobs/:digest", (context) => blobs.get(context));
  app.get("/v2/:name{.+}/manifests/:reference", (context) => manifests.get(context));
  app.put("/v2/:name{.+}/manifests/:reference", (context) => manifests.put(context));
  app.get("/v2/:name{.+}/referrers/:digest", (context) => manifests.referrers(context));
  app.get("/v2/:name{.+}/tags/list", (context) => manifests.tags(context));
  return app;
}
