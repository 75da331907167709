/**
 * A small forward proxy: http requests by their whole address, https through CONNECT. It notes what passes, and can be
 * told to answer by itself, as a proxy in trouble does.
 *
 * @module
 */
import { once } from "node:events";
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from "node:http";
import { connect, type Socket } from "node:net";

export interface ProxiedRequest {
  readonly method: string;
  /** The whole address; of CONNECT "host:port". */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
}

export interface ForwardProxy extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly host: string;
  /** "http://127.0.0.1:PORT" */
  readonly url: string;
  /** What came to be passed on, in order; pings are not. */
  readonly requests: readonly ProxiedRequest[];
  /** Looks at "/ping". */
  readonly pings: number;
  /** What "/ping" answers. */
  pingStatus: number;
  /** Answers by itself with this status; "hang" = never. */
  trouble: ((request: ProxiedRequest) => number | "hang" | undefined) | undefined;
}

export async function startForwardProxy(): Promise<ForwardProxy> {
  const requests: ProxiedRequest[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((incoming, outgoing) => serve(incoming, outgoing));
  server.on("connection", (socket: Socket) => track(sockets, socket));
  server.on("connect", (incoming: IncomingMessage, socket: Socket) => {
    const seen = note(incoming);
    if (state.trouble?.(seen) !== undefined) return void socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    const [host = "", port = ""] = seen.target.split(":");
    const onward = connect(Number(port), host, () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      onward.pipe(socket);
      socket.pipe(onward);
    });
    track(sockets, onward);
  });

  function note(incoming: IncomingMessage): ProxiedRequest {
    const seen = { method: incoming.method ?? "", target: incoming.url ?? "", headers: incoming.headers };
    requests.push(seen);
    return seen;
  }

  function serve(incoming: IncomingMessage, outgoing: ServerResponse): void {
    if (incoming.url === "/ping") {
      counts.pings++;
      return void outgoing.writeHead(state.pingStatus).end();
    }
    const seen = note(incoming);
    const trouble = state.trouble?.(seen);
    if (trouble === "hang") return;
    if (trouble !== undefined)
      return void outgoing.writeHead(trouble, { "x-dragonfly-error-type": "proxy" }).end();
    const { host: _, "proxy-authorization": __, ...headers } = incoming.headers;
    const onward = request(seen.target, { method: seen.method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.writeHead(502).end());
    incoming.pipe(onward);
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("Cannot find the proxy's port");
  const host = `127.0.0.1:${address.port}`;
  const counts = { pings: 0 };
  const state: ForwardProxy = {
    host,
    url: `http://${host}`,
    requests,
    get pings() {
      return counts.pings;
    },
    pingStatus: 200,
    trouble: undefined,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  return state;
}

function track(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.once("close", () => sockets.delete(socket));
  socket.on("error", () => {}); // either side may go away at any time
}
