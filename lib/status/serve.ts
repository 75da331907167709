/**
 * Listens for status requests: "host:port", ":port" (loopback), or "unix:PATH" (mode 0600).
 *
 * @module
 */
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { NydusError, toNydusError } from "../base/error.ts";
import { statusApp } from "./app.ts";
import type { StatusSource } from "./source.ts";

export interface StatusServer extends AsyncDisposable {
  /** Where it listens: "http://127.0.0.1:4711", or "unix:/run/x.sock". */
  readonly address: string;
}

const TCP = /^(?:([^:[\]]*)|\[([0-9a-fA-F:]+)\]):(\d{1,5})$/;

export function serveStatus(address: string, source: StatusSource): StatusServer {
  const { fetch } = statusApp(source);
  try {
    if (address.startsWith("unix:")) return listenUnix(address.slice("unix:".length), fetch);
    const [, name, literal, port] = TCP.exec(address) ?? [];
    if (port === undefined) {
      throw new NydusError(
        "usage",
        `Cannot serve status at "${address}": it is neither host:port nor unix:PATH`,
      );
    }
    const hostname = literal ?? (name || "127.0.0.1");
    const server = Bun.serve({
      hostname,
      port: Number(port),
      fetch: isLoopback(hostname) ? onlyLoopback(fetch) : fetch,
    });
    return {
      address: `http://${server.hostname}:${server.port}`,
      [Symbol.asyncDispose]: () => server.stop(true),
    };
  } catch (error) {
    throw toNydusError(error, `serve status at "${address}"`);
  }
}

type Fetch = (request: Request) => Response | Promise<Response>;

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127\./.test(hostname);
}

/** A page from elsewhere could give its own name our address, and a browser on this machine would let it read us. */
function onlyLoopback(fetch: Fetch): Fetch {
  return (request) => {
    const { hostname } = new URL(request.url);
    if (isLoopback(hostname.replace(/^\[|\]$/g, ""))) return fetch(request);
    return new Response("ask for localhost\n", { status: 421 });
  };
}

/** Bound inside a private directory and then moved: nobody can connect before the permissions are right. */
function listenUnix(path: string, fetch: Fetch): StatusServer {
  if (existsSync(path) && !lstatSync(path).isSocket())
    throw new NydusError("exists", `Cannot serve status at "unix:${path}": it is another file`);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const directory = mkdtempSync(join(dirname(path), ".n-"));
  const own = join(directory, "s");
  try {
    const server = Bun.serve({ unix: own, fetch });
    chmodSync(own, 0o600);
    renameSync(own, path);
    return {
      address: `unix:${path}`,
      async [Symbol.asyncDispose]() {
        rmSync(path, { force: true });
        await server.stop(true);
      },
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
