/**
 * Serves gRPC methods on one socket server. `handlers` come from a connect router.
 *
 * @module
 */
import { createServer, type Server } from "node:net";
import { type ConnectRouter, createConnectRouter, createContextValues } from "@connectrpc/connect";
import type {
  UniversalHandler,
  UniversalServerRequest,
  UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { Http2Connection } from "../../http2/connection.ts";
import { ERROR } from "../../http2/frames.ts";
import type { HeaderField } from "../../http2/hpack.ts";
import type { Http2Stream } from "../../http2/stream.ts";
import { toHeaders } from "./client.ts";

/** Answers what no handler of ours does; undefined = nobody does. */
export type Fallback = (request: UniversalServerRequest) => Promise<UniversalServerResponse> | undefined;

export interface GrpcServer {
  /** Not listening yet. */
  readonly server: Server;
  /** Take no new calls, let those under way end, but not longer than so many milliseconds. */
  close(patienceMs: number): Promise<void>;
}

const STATUS = "grpc-status";
/** gRPC's status for a method that does not exist. */
const UNIMPLEMENTED = "12";

export function createGrpcServer(routes: (router: ConnectRouter) => void, fallback?: Fallback): GrpcServer {
  const router = createConnectRouter({ connect: false, grpcWeb: false, grpc: true });
  routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const connections = new Set<Http2Connection>();
  const server = createServer((socket) => {
    const connection = new Http2Connection(socket, {
      role: "server",
      onStream: (stream) => void serve(stream, handlers, fallback),
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

async function serve(
  stream: Http2Stream,
  handlers: ReadonlyMap<string, UniversalHandler>,
  fallback: Fallback | undefined,
): Promise<void> {
  try {
    const head = await stream.head;
    const field = (name: string): string => head.find(([key]) => key === name)?.[1] ?? "";
    const request = {
      httpVersion: "2.0",
      method: field(":method"),
      url: `http://localhost${field(":path")}`,
      header: toHeaders(head),
      body: stream.body(),
      signal: stream.signal,
      contextValues: createContextValues(),
    };
    const answer = handlers.get(field(":path"))?.(request) ?? fallback?.(request);
    if (answer === undefined) {
      const status: HeaderField[] = [
        [":status", "200"],
        ["content-type", "application/grpc"],
        [STATUS, UNIMPLEMENTED],
      ];
      return stream.sendHeaders(status, true);
    }
    await respond(stream, await answer);
  } catch (error) {
    // The handler answers its own errors; what comes here is a stream that was given up, or a fault of ours.
    stream.reset(ERROR.internal, error instanceof Error ? error : new Error(String(error)));
  }
}

async function respond(stream: Http2Stream, response: UniversalServerResponse): Promise<void> {
  const fields = (headers: Headers | undefined): HeaderField[] => [...(headers ?? [])];
  // An answer that somebody else gave may be nothing but trailers.
  if (response.header !== undefined && new Headers(response.header).has(STATUS))
    return stream.sendHeaders([[":status", String(response.status)], ...fields(response.header)], true);
  stream.sendHeaders([[":status", String(response.status)], ...fields(response.header)]);
  for await (const piece of response.body ?? []) await stream.write(piece);
  // Trailers are complete once the body has ended.
  if (response.trailer === undefined) stream.end();
  else stream.sendHeaders(fields(response.trailer), true);
}
