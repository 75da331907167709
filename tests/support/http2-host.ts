/** A TLS host for tests that speaks HTTP/2 as a test wants it, and HTTP/1.1 well: "1" is its answer there. @module */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import { Http2Connection } from "../../lib/http2/connection.ts";
import type { HeaderField } from "../../lib/http2/hpack.ts";
import type { Http2Stream } from "../../lib/http2/stream.ts";
import { makeAuthority, type Pair } from "./certificates.ts";

export interface TestHost extends AsyncDisposable {
  readonly url: URL;
  /** Whom a client must trust (PEM). */
  readonly ca: string;
  /** Who may come where a certificate is asked for. */
  readonly visitor: Pair;
  /** HTTP/2 connections that are open. */
  readonly open: ReadonlySet<TLSSocket>;
  /** Connections so far: of HTTP/2, and of HTTP/1.1. */
  readonly http2: number;
  readonly http1: number;
}

export interface HostOptions {
  /** What is offered (both). */
  readonly protocols?: readonly string[];
  readonly names?: string;
  readonly asksForCertificate?: boolean;
}

export async function startHost(
  speak: (socket: TLSSocket) => void,
  { protocols = ["h2", "http/1.1"], names = "IP:127.0.0.1", asksForCertificate = false }: HostOptions = {},
): Promise<TestHost> {
  const directory = await mkdtemp("/tmp/nt-host-");
  const authority = await makeAuthority(directory);
  const { cert, key } = await authority.issue("host", `subjectAltName=${names}`);
  const visitor = await authority.issue("visitor", "extendedKeyUsage=clientAuth");
  await rm(directory, { recursive: true });
  const open = new Set<TLSSocket>();
  const all = new Set<TLSSocket>();
  const count = { http2: 0, http1: 0 };
  const asking = asksForCertificate ? { requestCert: true, rejectUnauthorized: true } : {};
  const server = createServer(
    { cert, key, ca: authority.cert, ALPNProtocols: [...protocols], ...asking },
    (socket) => {
      all.add(socket);
      socket.on("error", () => {}); // clients may go away
      socket.on("close", () => {
        open.delete(socket);
        all.delete(socket);
      });
      if (socket.alpnProtocol !== "h2") {
        count.http1++;
        return speakHttp1(socket);
      }
      count.http2++;
      open.add(socket);
      speak(socket);
    },
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}/`),
    ca: authority.cert,
    visitor,
    open,
    get http2() {
      return count.http2;
    },
    get http1() {
      return count.http1;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of all) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function speakHttp1(socket: TLSSocket): void {
  let text = "";
  socket.on("data", (bytes: Buffer) => {
    text += bytes.toString("latin1");
    for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
      text = text.slice(end + 4);
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
    }
  });
}

/** Serves requests with our own HTTP/2. */
export function serving(
  serve: (stream: Http2Stream, path: string) => unknown,
): (socket: TLSSocket) => Http2Connection {
  return (socket) =>
    new Http2Connection(socket, {
      role: "server",
      onStream: (stream) => {
        // A client may give up while it is served.
        stream.head
          .then((head) => serve(stream, head.find(([name]) => name === ":path")?.[1] ?? ""))
          .catch(() => {});
      },
    });
}

export const OK: readonly HeaderField[] = [[":status", "200"]];

/** The usual answer: "2". */
export async function answer(stream: Http2Stream): Promise<void> {
  stream.sendHeaders(OK);
  await stream.write(Buffer.from("2"));
  stream.end();
}
