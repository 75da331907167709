/** What happens on the wire, by HTTP/1.1 and HTTP/2: connections, headers, certificates, time limits. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { createSecureServer } from "node:http2";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { readAll } from "../content/verified.ts";
import { type HttpRequest, READ, type Send } from "./http.ts";
import { Http2Hosts } from "./http2-hosts.ts";
import { createTransport, type TransportOptions } from "./transport.ts";

interface Counted {
  readonly host: string;
  readonly sockets: Set<Socket>;
  /** Connections since the start. */
  connections: number;
  readonly seen: IncomingMessage[];
}

async function listen(server: Server): Promise<Counted> {
  const counted: Counted = { host: "", sockets: new Set(), connections: 0, seen: [] };
  server.on("connection", (socket: Socket) => {
    counted.connections++;
    counted.sockets.add(socket);
    socket.on("close", () => counted.sockets.delete(socket));
    socket.on("error", () => {});
  });
  server.on("request", (request: IncomingMessage) => counted.seen.push(request));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of counted.sockets) socket.destroy();
    server.close();
  });
  return Object.assign(counted, { host: `127.0.0.1:${(server.address() as AddressInfo).port}` });
}

function request(host: string, fields: Partial<HttpRequest> = {}): HttpRequest {
  const url = new URL(`http://${host}/v2/a/blobs/x?token=geheim`);
  return { method: "GET", url, action: 'read "it"', access: READ, ...fields };
}

const serve = (listener: RequestListener): Promise<Counted> => listen(createServer(listener));

/** A key and its certificate, for no name that anybody asks for. */
function selfSigned(): string {
  const made = Bun.spawnSync(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x -keyout - -out -".split(
      " ",
    ),
  );
  const pem = made.stdout.toString();
  expect(pem).toContain("CERTIFICATE");
  return pem;
}

interface Protocol {
  readonly version: string;
  readonly scheme: string;
  serve(listener: RequestListener): Promise<Counted>;
  /** Sends by this version. */
  client(server: Counted, options?: TransportOptions): Promise<Send>;
}

const PROTOCOLS: readonly Protocol[] = [
  { version: "1.1", scheme: "http", serve, client: async (_server, options) => createTransport(options) },
  {
    version: "2.0",
    scheme: "https",
    serve: (listener) => {
      const pem = selfSigned();
      // What its compatible part takes and gives is what node:http has.
      const listening = listener as unknown as Parameters<typeof createSecureServer>[1];
      const options = { key: pem, cert: pem, allowHTTP1: true, maxSessionMemory: 1000 };
      const server = createSecureServer(options, (incoming, outgoing) => {
        if (incoming.url === "/" || incoming.url === "/which") outgoing.end(incoming.httpVersion);
        else listening?.(incoming, outgoing);
      });
      return listen(server as unknown as Server);
    },
    client: async (server, options) => {
      const http2 = new Http2Hosts();
      const send = createTransport({ ...options, http2, insecure: true });
      const url = new URL(`https://${server.host}/which`);
      const which = async (): Promise<string> => {
        const response = await createTransport({ http2, insecure: true })(request(server.host, { url }));
        return Buffer.from(await readAll(response.body, 100, "it")).toString();
      };
      await expect.poll(which, { interval: 5, timeout: 10_000 }).toBe("2.0");
      server.seen.length = 0;
      return send;
    },
  },
];

test("createTransport() uses one connection for answers that are read or discarded", async () => {
  const server = await serve((incoming, outgoing) => {
    const body = '{"errors":[]}';
    outgoing.writeHead(incoming.method === "GET" ? 404 : 202, { "content-length": body.length });
    // The body comes later than the head: giving it up would break the connection.
    outgoing.flushHeaders();
    setTimeout(() => outgoing.end(body), 10);
  });
  const send = createTransport();
  for (let i = 0; i < 5; i++) {
    await (await send(request(server.host))).discard();
    await (await send(request(server.host, { method: "HEAD" }))).discard();
    await (await send(request(server.host, { method: "POST", body: new Uint8Array(10) }))).discard();
    await readAll((await send(request(server.host))).body, 100, "it");
  }
  expect(server.seen).toHaveLength(20);
  expect(server.connections).toBe(1);
});

test("createTransport() closes the connection of a body that is given up", async () => {
  const server = await serve((_incoming, outgoing) => {
    outgoing.writeHead(200, { "content-length": 1e9 });
    outgoing.write(Buffer.alloc(1000));
  });
  const response = await createTransport()(request(server.host));
  const reader = response.body.getReader();
  await reader.read();
  await reader.cancel();
  await expect.poll(() => server.sockets.size).toBe(0);
});

test("createTransport() sends a stream with the length that was announced", async () => {
  let received = 0;
  const server = await serve((incoming, outgoing) => {
    incoming.on("data", (bytes: Buffer) => {
      received += bytes.byteLength;
    });
    incoming.on("end", () => outgoing.writeHead(201).end());
  });
  let pieces = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(out) {
      if (pieces++ < 30) out.enqueue(new Uint8Array(100_000));
      else out.close();
    },
  });
  const headers = { "content-length": "3000000" };
  const response = await createTransport()(request(server.host, { method: "PUT", body, headers }));
  expect([response.status, received]).toEqual([201, 3_000_000]);
  expect(server.seen[0]?.headers["content-length"]).toBe("3000000");
});

test("createTransport() reports a host that speaks something else, without the query", async () => {
  const server = createTcpServer((socket) => void socket.end("SSH-2.0-x\r\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const failure = createTransport()(request(`127.0.0.1:${(server.address() as AddressInfo).port}`));
  await expect(failure).rejects.toMatchObject({ code: "unavailable" });
  await expect(failure).rejects.not.toThrow("geheim");
});

test("createTransport() refuses a certificate that nobody vouches for, unless told otherwise", async () => {
  const pem = selfSigned();
  const server = await listen(
    createTlsServer({ key: pem, cert: pem }, (_incoming, outgoing) => void outgoing.end("hello")),
  );
  const url = new URL(`https://${server.host}/`);
  const failure = createTransport()(request(server.host, { url }));
  await expect(failure).rejects.toMatchObject({ code: "denied" });
  await expect(failure).rejects.toThrow("--insecure");
  const response = await createTransport({ insecure: true })(request(server.host, { url }));
  expect(Buffer.from(await readAll(response.body, 100, "it")).toString()).toBe("hello");
});

test("createTransport() gives up on a host that takes too long to answer a write", async () => {
  const server = await serve((incoming) => void incoming.resume());
  const send = createTransport({ writeTimeout: 50 });
  const failure = send(request(server.host, { method: "PUT", body: new Uint8Array(10) }));
  await expect(failure).rejects.toMatchObject({ code: "unavailable" });
  await expect(failure).rejects.toThrow(`no answer from ${server.host} for 0.05 s`);
  await expect.poll(() => server.sockets.size).toBe(0);
});

describe.each(PROTOCOLS)("createTransport() by HTTP/$version", ({ version, scheme, serve, client }) => {
  const get = ({ host }: Counted, fields: Partial<HttpRequest> = {}): HttpRequest =>
    request(host, { url: new URL(`${scheme}://${host}/v2/a/blobs/x?token=geheim`), ...fields });

  test("gives bodies as they are stored", async () => {
    const stored = gzipSync("a layer");
    const server = await serve((_incoming, outgoing) => {
      outgoing.writeHead(200, { "content-encoding": "gzip" });
      outgoing.end(stored);
    });
    const send = await client(server, { userAgent: "tester" });
    const response = await send(get(server, { headers: { Range: "bytes=0-9" } }));
    expect(Buffer.compare(await readAll(response.body, 1000, "it"), stored)).toBe(0);
    expect(server.seen.map(({ httpVersion, url }) => [httpVersion, url])).toEqual([
      [version, "/v2/a/blobs/x?token=geheim"],
    ]);
    expect(server.seen[0]?.headers).toMatchObject({
      "accept-encoding": "identity",
      "user-agent": "tester",
      range: "bytes=0-9",
    });
  });

  test.each([
    ["GET", 401, { "www-authenticate": 'Bearer realm="https://x/token"' }, "no"],
    ["GET", 429, { "retry-after": "7" }, "later"],
    ["GET", 307, { location: "https://other.test/x?y" }, ""],
    ["GET", 304, { etag: '"x"' }, ""],
    ["GET", 204, {}, ""],
    ["GET", 200, { "content-length": "0" }, ""],
    ["HEAD", 200, { "content-length": "1000000" }, ""],
    ["HEAD", 404, {}, ""],
  ] as const)("gives answers as they are: %s %i", async (method, status, headers, body) => {
    const server = await serve((_incoming, outgoing) => {
      outgoing.writeHead(status, headers);
      outgoing.end(method === "HEAD" ? undefined : body);
    });
    const send = await client(server);
    const response = await send(get(server, { method }));
    expect(response.status).toBe(status);
    expect(Object.fromEntries(response.headers)).toMatchObject(headers);
    expect(Buffer.from(await readAll(response.body, 100, "it")).toString()).toBe(body);
    await response.discard();
    expect(server.seen[0]?.httpVersion).toBe(version);
  });

  test("counts requests and bytes", async () => {
    const server = await serve((_incoming, outgoing) => void outgoing.end(Buffer.alloc(100_000)));
    const seen: unknown[] = [];
    let bytes = 0;
    const request = (info: unknown): void => void seen.push(info);
    const count = (more: number): void => {
      bytes += more;
    };
    const send = await client(server, { observer: { request, bytes: count } });
    const response = await send(get(server, { headers: { range: "bytes=0-99999" } }));
    await readAll(response.body, 100_000, "it");
    expect(seen).toEqual([
      { method: "GET", host: server.host, path: "/v2/a/blobs/x", range: "bytes=0-99999" },
    ]);
    expect(bytes).toBe(100_000);
  });

  test("gives up on a host that takes too long to answer a read", async () => {
    const gone = Promise.withResolvers<void>();
    const server = await serve((_incoming, outgoing) => void outgoing.on("close", gone.resolve));
    const send = await client(server, { answerTimeout: 50 });
    const failure = send(get(server));
    await expect(failure).rejects.toMatchObject({ code: "unavailable" });
    await expect(failure).rejects.toThrow(`no answer from ${server.host} for 0.05 s`);
    await gone.promise;
  });

  test("gives up on a body that stops", async () => {
    const server = await serve((_incoming, outgoing) => {
      outgoing.writeHead(200, { "content-length": 1000 });
      outgoing.write("x");
    });
    const send = await client(server, { idleTimeout: 50 });
    const failure = send(get(server)).then(({ body }) => readAll(body, 1000, "it"));
    await expect(failure).rejects.toThrow(`the body stopped from ${server.host} for 0.05 s`);
  });

  test("does not count a slow reader as silence", async () => {
    const server = await serve((_incoming, outgoing) => void outgoing.end(Buffer.alloc(3_000_000)));
    const send = await client(server, { idleTimeout: 50 });
    const reader = (await send(get(server))).body.getReader();
    let size = (await reader.read()).value?.byteLength ?? 0;
    await new Promise((resolve) => setTimeout(resolve, 200));
    for (let piece = await reader.read(); !piece.done; piece = await reader.read())
      size += piece.value.byteLength;
    expect(size).toBe(3_000_000);
  });

  test("tells a time limit from an interruption", async () => {
    const server = await serve((incoming) => void incoming.resume());
    const send = await client(server);
    const slow = send(get(server, { signal: AbortSignal.timeout(30) }));
    await expect(slow).rejects.toMatchObject({ code: "unavailable" });
    const controller = new AbortController();
    const stopped = send(get(server, { signal: controller.signal }));
    controller.abort();
    await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
  });

  test("gives many large bodies at once", async () => {
    const blob = Buffer.from(Uint8Array.from({ length: 8_000_000 }, (_, i) => (i * 7) % 251));
    const server = await serve((_incoming, outgoing) => void outgoing.end(blob));
    const send = await client(server);
    const read = async (): Promise<boolean> => {
      const { body } = await send(get(server));
      return blob.equals(await readAll(body, blob.byteLength, "it"));
    };
    expect(new Set(await Promise.all(Array.from({ length: 8 }, read)))).toEqual(new Set([true]));
    expect(new Set(server.seen.map(({ httpVersion }) => httpVersion))).toEqual(new Set([version]));
  });
});
