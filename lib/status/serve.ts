/**
 * Listens for status requests: "host:port", ":port" (loopback), or "unix:PATH" (mode 0600).
 *
 * @module
 */
import { chmodSync, rmSync } from "node:fs";
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
    const server = Bun.serve({ hostname: literal ?? (name || "127.0.0.1"), port: Number(port), fetch });
    return {
      address: `http://${server.hostname}:${server.port}`,
      [Symbol.asyncDispose]: () => server.stop(true),
    };
  } catch (error) {
    throw toNydusError(error, `serve status at "${address}"`);
  }
}

function listenUnix(path: string, fetch: (request: Request) => Response | Promise<Response>): StatusServer {
  rmSync(path, { force: true });
  const server = Bun.serve({ unix: path, fetch });
  chmodSync(path, 0o600);
  return {
    address: `unix:${path}`,
    async [Symbol.asyncDispose]() {
      rmSync(path, { force: true });
      await server.stop(true);
    },
  };
}
