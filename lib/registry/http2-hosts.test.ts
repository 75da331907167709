/** When requests go by HTTP/2, and what happens when a host that offers it does not do it well. */
import { createServer } from "node:net";
import type { TLSSocket } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  answer,
  type HostOptions,
  OK,
  serving,
  startHost,
  type TestHost,
} from "../../tests/support/http2-host.ts";
import { readAll } from "../content/verified.ts";
import { encodeFrame, encodeSettings, FLAG, type Frame, FrameReader, TYPE, u32 } from "../http2/frames.ts";
import { encodeHeaders, type HeaderField } from "../http2/hpack.ts";
import type { Http2Stream } from "../http2/stream.ts";
import { type HttpRequest, type HttpResponse, READ, type Send } from "./http.ts";
import { Http2Hosts } from "./http2-hosts.ts";
import { createTransport, type TransportOptions } from "./transport.ts";

let cleanups: (() => unknown)[];
beforeEach(() => {
  cleanups = [];
});
afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

interface Client {
  readonly host: TestHost;
  readonly send: Send;
  ask(fields?: Partial<HttpRequest>): Promise<string>;
  /** Asks until the host is known to speak HTTP/2. */
  warm(): Promise<void>;
}

async function client(speak: (socket: TLSSocket) => unknown, options: HostOptions = {}): Promise<Client> {
  const host = await startHost(speak, options);
  cleanups.push(() => host[Symbol.asyncDispose]());
  return clientOf(host, { tls: { ca: [host.ca] } });
}

function clientOf(host: TestHost, options: TransportOptions): Client {
  const send = createTransport({ http2: new Http2Hosts(), ...options });
  const ask = async (fields: Partial<HttpRequest> = {}): Promise<string> =>
    text(await send(get(host, fields)));
  const warm = (): Promise<void> => expect.poll(() => ask(), { interval: 5, timeout: 10_000 }).toBe("2");
  return { host, send, ask, warm };
}

function get(host: TestHost, fields: Partial<HttpRequest> = {}): HttpRequest {
  return { method: "GET", url: host.url, action: 'read "it"', access: READ, ...fields };
}

async function text(response: HttpResponse): Promise<string> {
  return Buffer.from(await readAll(response.body, 1e8, "it")).toString();
}

const at = (host: TestHost, path: string): { url: URL } => ({ url: new URL(path, host.url) });

test("requests share one connection once the host has said that it speaks HTTP/2", async () => {
  const { host, ask, warm } = await client(serving(answer));
  expect(await ask()).toBe("1"); // at once, without asking first
  await warm();
  const answers = await Promise.all(Array.from({ length: 16 }, () => ask()));
  expect(new Set(answers)).toEqual(new Set(["2"]));
  expect([host.http2, host.http1]).toEqual([1, 1]);
});

test("requests that would need another connection wait for the answer to which HTTP is spoken", async () => {
  const { host, ask } = await client(serving(answer));
  const answers = await Promise.all(Array.from({ length: 10 }, () => ask()));
  expect(answers).toEqual(["1", ...Array.from({ length: 9 }, () => "2")]);
  expect([host.http2, host.http1]).toEqual([1, 1]);
});

test("a host that offers HTTP/1.1 alone is asked by it", async () => {
  const { host, ask } = await client(serving(answer), { protocols: ["http/1.1"] });
  for (let i = 0; i < 5; i++) expect(await Promise.all([ask(), ask(), ask()])).toEqual(["1", "1", "1"]);
  expect(host.http2).toBe(0);
});

test("requests one after the other do not wait for a host that never says which HTTP it speaks", async () => {
  const host = await startHost(serving(answer));
  cleanups.push(() => host[Symbol.asyncDispose]());
  const sockets = new Set<{ destroy(): unknown }>();
  // The first connection goes through; those after it are accepted, and that is all.
  const front = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    if (sockets.size > 1) return;
    void Bun.connect({
      hostname: "127.0.0.1",
      port: Number(host.url.port),
      socket: {
        open: (upstream) => void socket.on("data", (bytes: Buffer) => upstream.write(bytes)),
        data: (_upstream, bytes) => void socket.write(bytes),
      },
    });
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    front.close();
  });
  const url = new URL(host.url);
  url.port = String((front.address() as { port: number }).port);
  const { ask } = clientOf(host, { tls: { ca: [host.ca] } });
  for (let i = 0; i < 5; i++) expect(await ask({ url })).toBe("1");
});

test("a connection that its host ends after some requests is replaced", async () => {
  const { host, ask, warm } = await client((socket) => {
    let served = 0;
    const connection = serving(async (stream) => {
      if (++served === 3) void connection.drain();
      await answer(stream);
    })(socket);
  });
  await warm();
  for (let i = 0; i < 20; i++) expect(await ask()).toBe("2");
  expect(host.http2).toBeGreaterThan(5);
});

test("a request that was refused is sent again", async () => {
  let refusals = 0;
  const { host, ask, warm } = await client(
    serving((stream, path) => {
      if (path !== "/refused" || refusals++ > 0) return answer(stream);
      return stream.reset(7, new Error("too busy"));
    }),
  );
  await warm();
  expect(await ask(at(host, "/refused"))).toBe("2");
  expect([refusals, host.http2]).toEqual([2, 1]);
});

test("a request whose connection is lost before the answer is sent again", async () => {
  let losses = 0;
  const { host, ask, warm } = await client((socket) => {
    serving((stream, path) => {
      if (path !== "/lost") return answer(stream);
      losses++;
      return socket.destroy();
    })(socket);
  });
  await warm();
  expect(await ask(at(host, "/lost"))).toBe("1");
  expect(losses).toBeGreaterThan(0);
  expect(await ask()).toBe("2");
});

test.each<[what: string, go: (stream: Http2Stream, socket: TLSSocket) => unknown]>([
  ["whose connection is lost", (_stream, socket) => socket.destroy()],
  ["that the host gives up", (stream) => stream.reset(2, new Error("trouble"))],
  ["that ends early", (stream) => stream.end()],
])("a body %s is reported as one that broke off", async (_what, go) => {
  const begun = Promise.withResolvers<void>();
  const { host, send, ask, warm } = await client((socket) => {
    serving(async (stream, path) => {
      if (path === "/") return answer(stream);
      stream.sendHeaders([...OK, ["content-length", "100000"]]);
      await stream.write(new Uint8Array(50_000));
      await begun.promise;
      return go(stream, socket);
    })(socket);
  });
  await warm();
  const response = await send(get(host, at(host, "/half")));
  begun.resolve();
  const failure = text(response);
  await expect(failure).rejects.toMatchObject({ code: "unavailable" });
  await expect(failure).rejects.toThrow(`Cannot read "it": ${host.url.host} broke off the connection`);
  expect(await ask()).toBe("2");
});

test("all requests are answered by a host that takes few at once and refuses the others", async () => {
  const { ask, warm } = await client((socket) => {
    let now = 0;
    serving(async (stream) => {
      if (now === 2) return stream.reset(7, new Error("too many"));
      now++;
      await new Promise((resolve) => setTimeout(resolve, 5));
      now--;
      return answer(stream);
    })(socket);
    socket.write(encodeFrame(TYPE.settings, 0, 0, encodeSettings([[3, 2]])));
  });
  await warm();
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask()));
  expect(answers.filter((text) => text === "2").length).toBeGreaterThan(1);
});

test("a request beside one that hangs goes by another connection", async () => {
  const { host, ask, warm } = await client(
    serving((stream, path) => (path === "/hang" ? undefined : answer(stream))),
  );
  await warm();
  const controller = new AbortController();
  const hanging = ask({ ...at(host, "/hang"), signal: controller.signal });
  expect(await ask({ ...at(host, "/hang"), apart: true })).toBe("1");
  controller.abort();
  await expect(hanging).rejects.toMatchObject({ code: "cancelled" });
});

test("a host that took too long by HTTP/2 is asked by HTTP/1.1 for a while", async () => {
  let now = 0;
  const host = await startHost(serving((stream, path) => (path === "/hang" ? undefined : answer(stream))));
  cleanups.push(() => host[Symbol.asyncDispose]());
  const http2 = new Http2Hosts(() => now);
  const { send, ask, warm } = clientOf(host, { tls: { ca: [host.ca] }, http2, answerTimeout: 2000 });
  await warm();
  const hanging = createTransport({ tls: { ca: [host.ca] }, http2, answerTimeout: 50 });
  await expect(hanging(get(host, at(host, "/hang")))).rejects.toThrow("no answer from");
  now += 29_999;
  for (let i = 0; i < 3; i++) expect(await text(await send(get(host)))).toBe("1");
  now += 1;
  await warm();
  expect(await ask()).toBe("2");
});

const FIELDS: readonly HeaderField[] = [...OK, ["content-length", "1"]];
const raw = (fields: readonly HeaderField[]): Uint8Array => encodeHeaders(fields);

test.each<[what: string, send: (frame: SendFrame) => void]>([
  ["frames that are too large", (send) => send(TYPE.data, 0, new Uint8Array(17_000))],
  ["headers that do not decode", (send) => send(TYPE.headers, FLAG.endHeaders, Uint8Array.of(0x80))],
  ["names in upper case", (send) => send(TYPE.headers, FLAG.endHeaders, raw([...FIELDS, ["Server", "x"]]))],
  ["names with spaces", (send) => send(TYPE.headers, FLAG.endHeaders, raw([...FIELDS, ["a b", "x"]]))],
  [
    "values with line ends",
    (send) => send(TYPE.headers, FLAG.endHeaders, raw([...FIELDS, ["a", "x\r\nb: c"]])),
  ],
  ["no status", (send) => send(TYPE.headers, FLAG.endHeaders, raw([["server", "x"]]))],
  ["two statuses", (send) => send(TYPE.headers, FLAG.endHeaders, raw([...OK, ...FIELDS]))],
  ["a status that is none", (send) => send(TYPE.headers, FLAG.endHeaders, raw([[":status", "2e2"]]))],
  [
    "a length that is none",
    (send) => send(TYPE.headers, FLAG.endHeaders, raw([...OK, ["content-length", "-1"]])),
  ],
  ["an end without headers", (send) => send(TYPE.data, FLAG.endStream, new Uint8Array(1))],
  ["a wish for HTTP/1.1", (send) => send(TYPE.reset, 0, u32(13))],
])("a host that answers with %s is asked by HTTP/1.1", async (_what, send) => {
  let asked = 0;
  const { ask } = await client((socket) => {
    frames(socket, ({ type, stream }) => {
      if (type !== TYPE.headers) return;
      asked++;
      send((kind, flags, payload) => socket.write(encodeFrame(kind, flags, stream, payload)));
    });
    socket.write(encodeFrame(TYPE.settings, 0, 0, new Uint8Array()));
  });
  await expect.poll(async () => [await ask(), asked], { interval: 5, timeout: 10_000 }).toEqual(["1", 1]);
  for (let i = 0; i < 5; i++) expect(await ask()).toBe("1");
  expect(asked).toBe(1);
});

type SendFrame = (type: number, flags: number, payload: Uint8Array) => void;

function frames(socket: TLSSocket, each: (frame: Frame) => void): void {
  const reader = new FrameReader(true);
  socket.on("data", (bytes: Buffer) => {
    for (const frame of reader.push(bytes)) each(frame);
  });
}

test("bodies that are given up do not hold up what follows", async () => {
  let given = 0;
  const { host, send, ask, warm } = await client(
    serving(async (stream, path) => {
      if (path === "/") return answer(stream);
      stream.signal.addEventListener("abort", () => given++);
      stream.sendHeaders(OK);
      while (!stream.signal.aborted) await stream.write(new Uint8Array(1e6));
    }),
  );
  await warm();
  for (let i = 0; i < 20; i++) {
    const response = await send(get(host, at(host, "/long")));
    const reader = response.body.getReader();
    for (let got = 0; got < 2e6; ) got += (await reader.read()).value?.byteLength ?? 0;
    await reader.cancel();
    expect(await ask()).toBe("2");
  }
  await expect.poll(() => given).toBe(20);
});

test("bodies that nobody reads are held by the host, and do not hold up others", async () => {
  let writers = 0;
  const { host, send, ask, warm } = await client(
    serving(async (stream, path) => {
      if (path === "/") return answer(stream);
      stream.sendHeaders(OK);
      writers++;
      // More than anybody should take unread.
      for (let i = 0; i < 64; i++) await stream.write(new Uint8Array(2 ** 20));
      writers--;
    }),
  );
  await warm();
  const long = at(host, "/long");
  const responses = await Promise.all(Array.from({ length: 8 }, () => send(get(host, long))));
  for (let i = 0; i < 10; i++) expect(await ask()).toBe("2");
  expect(writers).toBe(8);
  for (const response of responses) await response.body.cancel();
});

test.each<[what: string, host: HostOptions, options: (host: TestHost) => TransportOptions]>([
  ["that nobody vouches for", {}, () => ({})],
  ["for another name", { names: "DNS:other.test" }, ({ ca }) => ({ tls: { ca: [ca] } })],
])("a certificate %s is refused as without HTTP/2", async (_what, options, of) => {
  const host = await startHost(serving(answer), options);
  cleanups.push(() => host[Symbol.asyncDispose]());
  const message = await createTransport(of(host))(get(host)).then(String, String);
  expect(message).toContain(`the certificate of ${host.url.host} is not trusted`);
  const { ask } = clientOf(host, of(host));
  const asked = Array.from({ length: 5 }, () => ask().catch(String));
  expect(new Set(await Promise.all(asked))).toEqual(new Set([message]));
  const unwary = clientOf(host, { insecure: true });
  await unwary.warm();
});

test("a client certificate is shown by HTTP/2 too", async () => {
  const host = await startHost(serving(answer), { asksForCertificate: true });
  cleanups.push(() => host[Symbol.asyncDispose]());
  await clientOf(host, { tls: { ca: [host.ca], certificate: host.visitor } }).warm();
  const { ask } = clientOf(host, { tls: { ca: [host.ca] } });
  for (let i = 0; i < 3; i++) await expect(ask()).rejects.toMatchObject({ code: "unavailable" });
});
