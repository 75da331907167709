/**
 * HTTP requests to one unix socket, for gRPC: connects when first needed, and again after the connection was lost.
 *
 * @module
 */
import { connect, type Socket } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalClientRequest, UniversalClientResponse } from "@connectrpc/connect/protocol";
import { MEANINGS } from "../../base/error.ts";
import { Http2Connection } from "../../http2/connection.ts";
import { ERROR, Http2Error } from "../../http2/frames.ts";
import type { HeaderField } from "../../http2/hpack.ts";
import type { Http2Stream } from "../../http2/stream.ts";

export class Http2Client implements Disposable {
  readonly #address: string;
  #connection: Promise<Http2Connection> | undefined;
  #disposed = false;

  constructor(address: string) {
    this.#address = address;
  }

  async request(request: UniversalClientRequest): Promise<UniversalClientResponse> {
    const { signal } = request;
    const cancelled = (): ConnectError => new ConnectError("interrupted", Code.Canceled);
    if (signal?.aborted) throw cancelled();
    const connection = await this.#connect();
    const stream = connection.open(headersOf(request));
    const cancel = (): void => stream.reset(ERROR.cancel, cancelled());
    signal?.addEventListener("abort", cancel, { once: true });
    if (signal?.aborted) cancel();
    void send(stream, request.body);
    const head = await stream.head.catch(rethrow);
    const trailer = new Headers();
    return {
      status: Number(head.find(([name]) => name === ":status")?.[1]),
      header: toHeaders(head),
      body: received(stream, trailer, () => signal?.removeEventListener("abort", cancel)),
      trailer,
    };
  }

  async #connect(): Promise<Http2Connection> {
    for (;;) {
      const connection = await this.#connected();
      if (connection.usable) return connection;
      this.#connection = undefined;
    }
  }

  #connected(): Promise<Http2Connection> {
    if (this.#disposed) throw new ConnectError("the client is closed", Code.Canceled);
    this.#connection ??= open(this.#address).catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return this.#connection;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#connection?.then((connection) => connection.destroy()).catch(() => {});
  }
}

async function open(address: string): Promise<Http2Connection> {
  const socket = await new Promise<Socket>((resolve, reject) => {
    const opened = connect(address, () => {
      opened.off("error", reject);
      resolve(opened);
    });
    opened.once("error", reject);
  });
  return new Http2Connection(socket, { role: "client" });
}

function headersOf({ url, method, header }: UniversalClientRequest): HeaderField[] {
  const { pathname, host } = new URL(url);
  const pseudo: HeaderField[] = [
    [":method", method],
    [":scheme", "http"],
    [":path", pathname],
    [":authority", host],
  ];
  return [...pseudo, ...[...header].map(([name, value]): HeaderField => [name.toLowerCase(), value])];
}

/** A failure while sending shows in the answer: the stream has failed, or the server says why it stopped reading. */
async function send(stream: Http2Stream, body: AsyncIterable<Uint8Array> | undefined): Promise<void> {
  try {
    for await (const piece of body ?? []) await stream.write(piece);
    stream.end();
  } catch (error) {
    const reason = error instanceof Error ? error : new Error(String(error));
    stream.reset(ERROR.cancel, reason);
  }
}

async function* received(
  stream: Http2Stream,
  trailer: Headers,
  done: () => void,
): AsyncGenerator<Uint8Array> {
  let complete = false;
  try {
    yield* stream.body();
    complete = true;
    for (const [name, value] of stream.trailers) trailer.append(name, value);
  } catch (error) {
    rethrow(error);
  } finally {
    done();
    if (!complete) stream.reset(ERROR.cancel, new ConnectError("nobody reads on", Code.Canceled));
  }
}

/** What HTTP/2 says is broken, with gRPC's code for it. */
export function rethrow(error: unknown): never {
  if (!(error instanceof Http2Error)) throw error;
  throw new ConnectError(error.state, MEANINGS[error.code].grpc, undefined, undefined, error.cause);
}

/** Fields as fetch has them; those that begin with a colon are not headers. */
export function toHeaders(fields: readonly HeaderField[]): Headers {
  const headers = new Headers();
  for (const [name, value] of fields) if (!name.startsWith(":")) headers.append(name, value);
  return headers;
}
