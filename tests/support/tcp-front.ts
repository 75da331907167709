/** Stands before a server and passes bytes on: counts connections, and breaks them when told. @module */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import type { Pair } from "./certificates.ts";

export interface TcpFront extends AsyncDisposable {
  /** "127.0.0.1:PORT". */
  readonly host: string;
  /** So far. */
  readonly connections: number;
  /** Breaks each connection whenever so many bytes of answers have passed, so many times in all. */
  breakAfter(bytes: number, times: number): void;
  /** How often connections were broken. */
  readonly breaks: number;
  /** Once so many bytes of answers have passed, the connections that are open then pass nothing more. */
  hangAfter(bytes: number): void;
  readonly hangs: boolean;
}

/** @param tls ends TLS here, with HTTP/1.1 alone on offer; without it, bytes pass as they are */
export async function startTcpFront(target: string, tls?: Pair): Promise<TcpFront> {
  const [hostname = "", port] = target.split(":");
  const sockets = new Set<Socket>();
  const count = { connections: 0, breaks: 0 };
  const limit = { bytes: Number.POSITIVE_INFINITY, times: 0, hang: Number.POSITIVE_INFINITY };
  let passed = 0;
  let hangs = false;
  const pass = (client: Socket): void => {
    count.connections++;
    const upstream = connect(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("error", () => {}); // either side may go away
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
    client.pipe(upstream);
    upstream.pipe(client);
    upstream.on("data", (bytes: Buffer) => {
      passed += bytes.byteLength;
      if (passed >= limit.hang) {
        limit.hang = Number.POSITIVE_INFINITY;
        hangs = true;
        for (const socket of sockets) hold(socket);
      }
      if (passed < limit.bytes || count.breaks >= limit.times) return;
      count.breaks++;
      passed = 0;
      for (const socket of sockets) socket.destroy();
    });
  };
  const server: Server =
    tls === undefined ? createServer(pass) : createTlsServer({ ...tls, ALPNProtocols: ["http/1.1"] }, pass);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return count.connections;
    },
    get breaks() {
      return count.breaks;
    },
    get hangs() {
      return hangs;
    },
    hangAfter(bytes) {
      passed = 0;
      limit.hang = bytes;
    },
    breakAfter(bytes, times) {
      passed = 0;
      Object.assign(limit, { bytes, times: count.breaks + times });
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** What is written to it goes nowhere, and nothing comes from it. */
function hold(socket: Socket): void {
  socket.unpipe();
  socket.pause();
}
