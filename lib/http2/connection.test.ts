import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttp2Server, connect as http2Connect } from "node:http2";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Http2Connection } from "./connection.ts";
import { encodeFrame, encodeSettings, FLAG, type Frame, FrameReader, PREFACE, TYPE, u32 } from "./frames.ts";
import { encodeHeaders, type HeaderField } from "./hpack.ts";
import type { Http2Stream } from "./stream.ts";

let directory: string;
let cleanups: (() => unknown)[];
beforeEach(async () => {
  directory = await mkdtemp("/tmp/nt-h2-");
  cleanups = [];
});
afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  await rm(directory, { recursive: true });
});

/** Both ends of a unix socket. */
async function pair(): Promise<[Socket, Socket]> {
  const server = createServer().listen(`${directory}/p`);
  await once(server, "listening");
  const [[accepted], client] = await Promise.all([
    once(server, "connection") as Promise<[Socket]>,
    new Promise<Socket>((resolve) => {
      const socket = connect(`${directory}/p`, () => resolve(socket));
    }),
  ]);
  server.close();
  cleanups.push(() => {
    accepted.destroy();
    client.destroy();
  });
  return [accepted, client];
}

/** A peer that speaks in single frames. */
class RawPeer {
  readonly #socket: Socket;
  readonly #frames: Frame[] = [];
  #wake = (): void => {};
  #closed = false;

  constructor(socket: Socket, reads: "client" | "server") {
    this.#socket = socket;
    const reader = new FrameReader(reads === "server");
    socket.on("data", (bytes: Buffer) => {
      this.#frames.push(...reader.push(bytes));
      this.#wake();
    });
    socket.on("close", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  send(type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): void {
    this.#socket.write(encodeFrame(type, flags, stream, payload));
  }

  /** The next frame of a type; others are passed over. */
  async next(type: number): Promise<Frame> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame?.type === type) return frame;
      if (frame !== undefined) continue;
      if (this.#closed) throw new Error("the connection is closed");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async data(bytes: number): Promise<number> {
    let got = 0;
    while (got < bytes) got += (await this.next(TYPE.data)).payload.byteLength;
    return got;
  }
}

const REQUEST: HeaderField[] = [
  [":method", "POST"],
  [":path", "/x"],
];

/** Our server, a raw client that has opened stream 1, and that stream as the server sees it. */
async function rawClient(): Promise<{ peer: RawPeer; connection: Http2Connection; stream: Http2Stream }> {
  const [accepted, client] = await pair();
  const opened = Promise.withResolvers<Http2Stream>();
  const connection = new Http2Connection(accepted, { role: "server", onStream: opened.resolve });
  const peer = new RawPeer(client, "client");
  client.write(PREFACE);
  peer.send(TYPE.settings, 0, 0);
  peer.send(TYPE.headers, FLAG.endHeaders | FLAG.endStream, 1, encodeHeaders(REQUEST));
  return { peer, connection, stream: await opened.promise };
}

const INITIAL_WINDOW = (size: number): Uint8Array => encodeSettings([[4, size]]);

test("Http2Stream.write() goes on when SETTINGS alone raise the window of data that waits", async () => {
  const { peer, stream } = await rawClient();
  peer.send(TYPE.windowUpdate, 0, 0, u32(1_000_000)); // the connection's window is not in the way
  stream.sendHeaders([[":status", "200"]]);
  const written = stream.write(new Uint8Array(300_000));
  expect(await peer.data(65_535)).toBe(65_535);
  peer.send(TYPE.settings, 0, 0, INITIAL_WINDOW(400_000));
  await written;
  expect(await peer.data(300_000 - 65_535)).toBe(300_000 - 65_535);
});

test("Http2Stream.write() waits for the window of the connection, whatever the stream's is", async () => {
  const { peer, stream } = await rawClient();
  peer.send(TYPE.settings, 0, 0, INITIAL_WINDOW(1_000_000));
  const written = stream.write(new Uint8Array(100_000));
  expect(await peer.data(65_535)).toBe(65_535);
  peer.send(TYPE.windowUpdate, 0, 1, u32(1_000_000));
  peer.send(TYPE.windowUpdate, 0, 0, u32(34_465));
  await written;
  expect(await peer.data(34_465)).toBe(34_465);
});

test("Http2Stream.write() waits when SETTINGS shrink the window below zero", async () => {
  const { peer, stream } = await rawClient();
  peer.send(TYPE.windowUpdate, 0, 0, u32(1_000_000));
  await stream.write(new Uint8Array(60_000));
  peer.send(TYPE.settings, 0, 0, INITIAL_WINDOW(10_000)); // now -50,000
  await peer.next(TYPE.settings);
  const written = stream.write(new Uint8Array(5000));
  peer.send(TYPE.windowUpdate, 0, 1, u32(50_000)); // 0
  peer.send(TYPE.windowUpdate, 0, 1, u32(5000));
  await written;
  expect(await peer.data(65_000)).toBe(65_000);
});

test("Http2Stream.write() fails when the peer gives the stream up, and the signal fires", async () => {
  const { peer, stream } = await rawClient();
  const written = stream.write(new Uint8Array(100_000));
  peer.send(TYPE.reset, 0, 1, u32(8));
  await expect(written).rejects.toMatchObject({ code: "cancelled" });
  expect(stream.signal.aborted).toBe(true);
});

test("Http2Stream keeps a whole answer when the server then stops reading", async () => {
  const [accepted, client] = await pair();
  const connection = new Http2Connection(client, { role: "client" });
  const peer = new RawPeer(accepted, "server");
  const stream = connection.open(REQUEST);
  const written = stream.write(new Uint8Array(100_000));
  await peer.next(TYPE.headers);
  peer.send(TYPE.headers, FLAG.endHeaders, 1, encodeHeaders([[":status", "200"]]));
  peer.send(TYPE.data, 0, 1, Buffer.from("answer"));
  peer.send(TYPE.headers, FLAG.endHeaders | FLAG.endStream, 1, encodeHeaders([["grpc-status", "6"]]));
  peer.send(TYPE.reset, 0, 1, u32(0));
  await expect(written).rejects.toMatchObject({ code: "cancelled" });
  const pieces: string[] = [];
  for await (const piece of stream.body()) pieces.push(Buffer.from(piece).toString());
  expect(pieces).toEqual(["answer"]);
  expect(stream.trailers).toEqual([["grpc-status", "6"]]);
});

test("Http2Stream.body() gives room back as it is read, also for padding", async () => {
  const [accepted, client] = await pair();
  const opened = Promise.withResolvers<Http2Stream>();
  new Http2Connection(accepted, { role: "server", onStream: opened.resolve });
  const peer = new RawPeer(client, "client");
  client.write(PREFACE);
  peer.send(TYPE.headers, FLAG.endHeaders, 1, encodeHeaders(REQUEST));
  const stream = await opened.promise;
  const padded = new Uint8Array(1 + 1000 + 255);
  padded[0] = 255;
  let sent = 0;
  while (sent < 2 ** 20 - padded.byteLength) {
    peer.send(TYPE.data, FLAG.padded, 1, padded);
    sent += padded.byteLength;
  }
  let [read, pieces] = [0, 0];
  for await (const piece of stream.body()) {
    read += piece.byteLength;
    if (++pieces === sent / padded.byteLength) break;
  }
  expect(read).toBe(pieces * 1000);
  const update = await peer.next(TYPE.windowUpdate); // the connection's at the start
  expect(update.stream).toBe(0);
  expect((await peer.next(TYPE.windowUpdate)).stream).toBe(1);
});

test("Http2Stream.reset() gives room back for a whole answer that nobody reads", async () => {
  const [accepted, client] = await pair();
  const connection = new Http2Connection(client, { role: "client" });
  const peer = new RawPeer(accepted, "server");
  await peer.next(TYPE.windowUpdate);
  // Eight times 512 KiB: half of the connection's window, which is when room is given back.
  for (let id = 1; id < 16; id += 2) {
    const stream = connection.open(REQUEST);
    stream.end();
    peer.send(TYPE.headers, FLAG.endHeaders, id, encodeHeaders([[":status", "200"]]));
    for (let at = 0; at < 32; at++)
      peer.send(TYPE.data, at === 31 ? FLAG.endStream : 0, id, new Uint8Array(16_384));
    await stream.head;
    peer.send(TYPE.ping, 0, 0, new Uint8Array(8));
    await peer.next(TYPE.ping);
    stream.reset(8, new Error("nobody wants it"));
  }
  expect((await peer.next(TYPE.windowUpdate)).stream).toBe(0);
});

test("Http2Connection reads headers in several frames, with padding and priority", async () => {
  const [accepted, client] = await pair();
  const opened = Promise.withResolvers<Http2Stream>();
  new Http2Connection(accepted, { role: "server", onStream: opened.resolve });
  const peer = new RawPeer(client, "client");
  client.write(PREFACE);
  const block = encodeHeaders([...REQUEST, ["long", "v".repeat(30_000)]]);
  const first = Buffer.concat([
    Uint8Array.of(2),
    new Uint8Array(5),
    block.subarray(0, 100),
    new Uint8Array(2),
  ]);
  peer.send(TYPE.headers, FLAG.padded | FLAG.priority | FLAG.endStream, 1, first);
  peer.send(TYPE.continuation, 0, 1, block.subarray(100, 16_000));
  peer.send(TYPE.continuation, FLAG.endHeaders, 1, block.subarray(16_000));
  const stream = await opened.promise;
  expect((await stream.head).find(([name]) => name === "long")?.[1]).toHaveLength(30_000);
  for await (const _ of stream.body()) throw new Error("the body must be empty");
});

test("Http2Connection answers pings and settings", async () => {
  const { peer } = await rawClient();
  peer.send(TYPE.ping, 0, 0, Buffer.from("12345678"));
  const pong = await peer.next(TYPE.ping);
  expect([pong.flags, pong.payload.toString()]).toEqual([FLAG.ack, "12345678"]);
  peer.send(TYPE.settings, 0, 0);
  expect((await peer.next(TYPE.settings)).flags & FLAG.ack).toBe(FLAG.ack);
});

const bad: readonly (readonly [what: string, code: number, send: (peer: RawPeer) => void])[] = [
  ["a frame that is too large", 6, (peer) => peer.send(TYPE.data, 0, 1, new Uint8Array(16_385))],
  ["more data than the window", 3, flood],
  [
    "headers that do not decode",
    9,
    (peer) => peer.send(TYPE.headers, FLAG.endHeaders, 3, Uint8Array.of(0x80)),
  ],
  ["a window that grows by nothing", 1, (peer) => peer.send(TYPE.windowUpdate, 0, 0, u32(0))],
  ["a window that overflows", 3, (peer) => peer.send(TYPE.windowUpdate, 0, 0, u32(2 ** 31 - 1))],
  ["a push", 1, (peer) => peer.send(TYPE.pushPromise, 0, 1, u32(2))],
  [
    "a stream of the wrong side",
    1,
    (peer) => peer.send(TYPE.headers, FLAG.endHeaders, 2, encodeHeaders(REQUEST)),
  ],
  ["padding beyond the frame", 1, (peer) => peer.send(TYPE.headers, FLAG.padded, 3, Uint8Array.of(9))],
  [
    "headers that are interrupted",
    1,
    (peer) => {
      peer.send(TYPE.headers, 0, 3, encodeHeaders(REQUEST));
      peer.send(TYPE.ping, 0, 0, new Uint8Array(8));
    },
  ],
  [
    "headers without end",
    1,
    (peer) => {
      peer.send(TYPE.headers, 0, 3, encodeHeaders(REQUEST));
      for (let i = 0; i < 5000; i++) peer.send(TYPE.continuation, 0, 3);
    },
  ],
  ["a frame that is cut short", 6, (peer) => peer.send(TYPE.windowUpdate, 0, 0, new Uint8Array(2))],
];

function flood(peer: RawPeer): void {
  peer.send(TYPE.headers, FLAG.endHeaders, 3, encodeHeaders(REQUEST));
  for (let i = 0; i < 65; i++) peer.send(TYPE.data, 0, 3, new Uint8Array(16_384));
}

test.each(bad)("Http2Connection ends on %s", async (_, code, send) => {
  const { peer, connection } = await rawClient();
  send(peer);
  const goAway = await peer.next(TYPE.goAway);
  expect(goAway.payload.readUInt32BE(4)).toBe(code);
  await connection.closed;
});

test("Http2Connection refuses a peer that does not speak HTTP/2", async () => {
  const [accepted, client] = await pair();
  const connection = new Http2Connection(accepted, { role: "server" });
  client.write("GET / HTTP/1.1\r\n\r\n");
  await connection.closed;
});

test("Http2Connection.drain() lets streams end and takes no new ones", async () => {
  const { peer, connection, stream } = await rawClient();
  const drained = connection.drain();
  expect((await peer.next(TYPE.goAway)).payload.readUInt32BE(0)).toBe(1);
  stream.sendHeaders([[":status", "200"]], true);
  await drained;
});

test("Http2Connection.open() fails what a server that goes away will not serve", async () => {
  const [accepted, client] = await pair();
  const connection = new Http2Connection(client, { role: "client" });
  const peer = new RawPeer(accepted, "server");
  const [one, two] = [connection.open(REQUEST), connection.open(REQUEST)];
  await peer.next(TYPE.headers);
  peer.send(TYPE.goAway, 0, 0, u32(1, 0));
  await expect(two.head).rejects.toMatchObject({ code: "unavailable" });
  expect(connection.usable).toBe(false);
  peer.send(TYPE.headers, FLAG.endHeaders | FLAG.endStream, 1, encodeHeaders([[":status", "204"]]));
  expect(await one.head).toEqual([[":status", "204"]]);
});

test("Http2Connection fails its streams when the socket closes", async () => {
  const { connection, stream } = await rawClient();
  const written = stream.write(new Uint8Array(100_000));
  connection.destroy();
  await expect(written).rejects.toMatchObject({ code: "unavailable" });
});

/** Another implementation on the other side: bodies both ways, larger than one frame and one window's quarter. */
const BODY = new Uint8Array(50_000).fill(7);

test("Http2Connection serves node:http2", async () => {
  const server = createServer((socket) => {
    const serve = async (stream: Http2Stream): Promise<void> => {
      let size = 0;
      for await (const piece of stream.body()) size += piece.byteLength;
      stream.sendHeaders([
        [":status", "200"],
        ["x-size", String(size)],
      ]);
      await stream.write(BODY);
      stream.sendHeaders([["x-end", "yes"]], true);
    };
    new Http2Connection(socket, { role: "server", onStream: (stream) => void serve(stream) });
  }).listen(`${directory}/s`);
  await once(server, "listening");
  const session = http2Connect("http://localhost", { createConnection: () => connect(`${directory}/s`) });
  cleanups.push(() => {
    session.destroy();
    server.close();
  });
  const request = session.request({ ":method": "POST", ":path": "/x" });
  const trailers = once(request, "trailers");
  request.end(Buffer.from(BODY));
  const [head] = await once(request, "response");
  let size = 0;
  for await (const piece of request) size += (piece as Buffer).byteLength;
  expect([head["x-size"], size]).toEqual(["50000", 50_000]);
  expect((await trailers)[0]).toMatchObject({ "x-end": "yes" });
});

test("Http2Connection asks node:http2", async () => {
  const server = createHttp2Server((request, response) => {
    let size = 0;
    request.on("data", (bytes: Buffer) => {
      size += bytes.byteLength;
    });
    request.on("end", () => {
      response.writeHead(200, { "x-size": String(size) });
      response.end(Buffer.from(BODY));
    });
  }).listen(`${directory}/s`);
  await once(server, "listening");
  const socket = connect(`${directory}/s`);
  await once(socket, "connect");
  cleanups.push(() => {
    socket.destroy();
    server.close();
  });
  const connection = new Http2Connection(socket, { role: "client" });
  const stream = connection.open([...REQUEST, [":scheme", "http"], [":authority", "localhost"]]);
  await stream.write(BODY);
  stream.end();
  expect(await stream.head).toContainEqual(["x-size", "50000"]);
  let size = 0;
  for await (const piece of stream.body()) size += piece.byteLength;
  expect(size).toBe(50_000);
});
