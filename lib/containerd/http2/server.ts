/**
 * Serves gRPC methods on one socket server. `handlers` come from a connect router.
 *
 * @module
 */
import { createServer, type Server } from "node:net";
import { type ConnectRouter, createConnectRouter, createContextValues } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { toHeaders } from "./client.ts";
import { Http2Connection } from "./connection.ts";
import { ERROR } from "./frames.ts";
import type { HeaderField } from "./hpack.ts";
import type { Http2Stream } from "./stream.ts";

export interface GrpcServer {
  /** Not listening yet. */
  readonly server: Server;
  /** Take no new calls, let those under way end, but not longer than so many milliseconds. */
  close(patienceMs: number): Promise<void>;
}

/** gRPC's status for a method that does not exist. */
const UNIMPLEMENTED = "12";

export function createGrpcServer(routes: (router: ConnectRouter) => void): GrpcServer {
  const router = createConnectRouter({ connect: false, grpcWeb: false, grpc: true });
  routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const connections = new Set<Http2Connection>();
  const server = createServer((socket) => {
    const connection = new Http2Connection(socket, {
      role: "server",
      onStream: (stream) => void serve(stream, handlers),
    });
    connections.add(connection);
    void connection.closed.then(() => connections.delete(connection));
  });
  return {
    server,
    async close(patienceMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      const patience = setTimeout(() => {
        for (const connection of connections) connection.destroy();
      }, patienceMs);
      await Promise.all([...connections].map((connection) => connection.drain()));
      clearTimeout(patience);
      await closed;
    },
  };
}

async function serve(stream: Http2Stream, handlers: ReadonlyMap<string, UniversalHandler>): Promise<void> {
  try {
    const head = await stream.head;
    const field = (name: string): string => head.find(([key]) => key === name)?.[1] ?? "";
    const handler = handlers.get(field(":path"));
    if (handler === undefined) {
      const status: HeaderField[] = [
        [":status", "200"],
        ["content-type", "application/grpc"],
        ["grpc-status", UNIMPLEMENTED],
      ];
      return stream.sendHeaders(status, true);
    }
    const response = await handler({
      httpVersion: "2.0",
      method: field(":method"),
      url: `http://localhost${field(":path")}`,
      header: toHeaders(head),
      body: stream.body(),
      signal: stream.signal,
      contextValues: createContextValues(),
    });
    await respond(stream, response);
  } catch (error) {
    // The handler answers its own errors; what comes here is a stream that was given up, or a fault of ours.
    stream.reset(ERROR.internal, error instanceof Error ? error : new Error(String(error)));
  }
}

async function respond(stream: Http2Stream, response: UniversalServerResponse): Promise<void> {
  const fields = (headers: Headers | undefined): HeaderField[] => [...(headers ?? [])];
  stream.sendHeaders([[":status", String(response.status)], ...fields(response.header)]);
  for await (const piece of response.body ?? []) await stream.write(piece);
  // Trailers are complete once the body has ended.
  if (response.trailer === undefined) stream.end();
  else stream.sendHeaders(fields(response.trailer), true);
}
