/**
 * Stands before a registry, passes everything on as it comes and remembers what was asked: what a mount fetched is seen
 * from outside, not from its own counters. It can also be a slow link.
 *
 * @module
 */
import { once } from "node:events";
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly range: string | null;
  readonly status: number;
  /** Bytes of the answer's body. */
  readonly bytes: number;
}

export interface Link {
  /** Of all answers together; without it, as fast as it goes. */
  readonly bytesPerSecond?: number;
  /** What a round trip takes: each request waits so long, and the first one of a connection twice. */
  readonly roundTripMs?: number;
}

export interface CountingProxy extends AsyncDisposable {
  /** "127.0.0.1:PORT". */
  readonly host: string;
  /** In order of completion. */
  readonly requests: readonly SeenRequest[];
  /** Forget what was asked so far, also what is not answered yet. */
  reset(): void;
  /** Bytes of blobs that were answered. */
  blobBytes(): number;
  /** Answer everything with 503 from now on. */
  refuse: boolean;
  /** What lies between the proxy and its clients. */
  link: Link;
}

/** Bytes that pass a slow link at once. */
const PIECE = 16 * 1024;

/** @param target "127.0.0.1:PORT" of the registry */
export async function startCountingProxy(target: string, link: Link = {}): Promise<CountingProxy> {
  const proxy = new Front(target, link);
  await proxy.listen();
  return proxy;
}

class Front implements CountingProxy {
  refuse = false;
  link: Link;
  readonly #target: string;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #server = createServer((incoming, outgoing) => {
    this.#serve(incoming, outgoing).catch(() => outgoing.destroy());
  });
  readonly #sockets = new Set<Socket>();
  /** Sockets that have carried a request. */
  readonly #met = new WeakSet<Socket>();
  #requests: SeenRequest[] = [];
  #resets = 0;
  #host = "";
  /** When the link has sent all that it took: performance.now(). */
  #free = 0;

  constructor(target: string, link: Link) {
    this.#target = target;
    this.link = link;
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {}); // clients may go away
    });
  }

  async listen(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.#host = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get host(): string {
    return this.#host;
  }

  get requests(): readonly SeenRequest[] {
    return this.#requests;
  }

  reset(): void {
    this.#resets++;
    this.#requests = [];
  }

  blobBytes(): number {
    return this.#requests
      .filter(({ path }) => path.includes("/blobs/"))
      .reduce((total, { bytes }) => total + bytes, 0);
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const since = this.#resets;
    if (this.refuse) {
      outgoing.writeHead(503).end();
      return;
    }
    await this.#roundTrip(incoming.socket);
    const answer = await this.#ask(incoming);
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    let bytes = 0;
    const turn = (count: number): Promise<void> => this.#turn(count);
    const pass = async function* (body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      for await (const chunk of body) {
        bytes += chunk.byteLength;
        for (let at = 0; at < chunk.byteLength; at += PIECE) {
          const piece = chunk.subarray(at, at + PIECE);
          await turn(piece.byteLength);
          yield piece;
        }
      }
    };
    await pipeline(answer, pass, outgoing);
    const { method = "", url = "" } = incoming;
    if (since !== this.#resets) return;
    const path = url.split("?")[0] ?? "";
    const range = incoming.headers.range ?? null;
    this.#requests.push({ method, path, range, status: answer.statusCode ?? 502, bytes });
  }

  async #roundTrip(socket: Socket): Promise<void> {
    const { roundTripMs = 0 } = this.link;
    const trips = this.#met.has(socket) ? 1 : 2;
    this.#met.add(socket);
    if (roundTripMs > 0) await sleep(trips * roundTripMs);
  }

  async #ask(incoming: IncomingMessage): Promise<IncomingMessage> {
    const { method, url, headers } = incoming;
    const asked = request(`http://${this.#target}${url}`, { method, headers, agent: this.#agent });
    incoming.pipe(asked);
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    return answer;
  }

  /** When so many bytes may go. */
  async #turn(bytes: number): Promise<void> {
    const { bytesPerSecond } = this.link;
    if (bytesPerSecond === undefined) return;
    const now = performance.now();
    this.#free = Math.max(now, this.#free) + (bytes / bytesPerSecond) * 1000;
    // Timers are coarse; a link that is a millisecond early stays right on average.
    if (this.#free - now > 1) await sleep(this.#free - now);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent.destroy();
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
