/** What happens on the wire: connections, headers, certificates, time limits. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import { readAll } from "../content/verified.ts";
import { type HttpRequest, READ } from "./http.ts";
import { createTransport } from "./transport.ts";

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
  onTestFinished(async () => {
    for (const socket of counted.sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return Object.assign(counted, { host: `127.0.0.1:${(server.address() as AddressInfo).port}` });
}

function request(host: string, fields: Partial<HttpRequest> = {}): HttpRequest {
  const url = new URL(`http://${host}/v2/a/blobs/x?token=geheim`);
  return { method: "GET", url, action: 'read "it"', access: READ, ...fields };
}

const serve = (listener: RequestListener): Promise<Counted> => listen(createServer(listener));

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

test("createTransport() gives bodies as they are stored", async () => {
  const stored = gzipSync("a layer");
  const server = await serve((_incoming, outgoing) => {
    outgoing.writeHead(200, { "content-encoding": "gzip" }).end(stored);
  });
  const response = await createTransport({ userAgent: "tester" })(request(server.host));
  expect(Buffer.compare(await readAll(response.body, 1000, "it"), stored)).toBe(0);
  const headers = server.seen[0]?.headers;
  expect(headers?.["accept-encoding"]).toBe("identity");
  expect(headers?.["user-agent"]).toBe("tester");
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

test.each([
  ["to answer a read", { answerTimeout: 50 }, {}],
  ["to answer a write", { writeTimeout: 50 }, { method: "PUT", body: new Uint8Array(10) }],
] as const)("createTransport() gives up on a host that takes too long %s", async (_what, options, fields) => {
  const server = await serve((incoming) => void incoming.resume());
  const failure = createTransport(options)(request(server.host, fields));
  await expect(failure).rejects.toMatchObject({ code: "unavailable" });
  await expect(failure).rejects.toThrow(`no answer from ${server.host} for 0.05 s`);
  await expect.poll(() => server.sockets.size).toBe(0);
});

test("createTransport() does not count a slow reader as silence", async () => {
  const server = await serve((_incoming, outgoing) => void outgoing.end(Buffer.alloc(3_000_000)));
  const response = await createTransport({ idleTimeout: 50 })(request(server.host));
  const reader = response.body.getReader();
  let size = (await reader.read()).value?.byteLength ?? 0;
  await new Promise((resolve) => setTimeout(resolve, 200));
  for (let piece = await reader.read(); !piece.done; piece = await reader.read())
    size += piece.value.byteLength;
  expect(size).toBe(3_000_000);
});

test("createTransport() tells a time limit from an interruption", async () => {
  const server = await serve((incoming) => void incoming.resume());
  const send = createTransport();
  const slow = send(request(server.host, { signal: AbortSignal.timeout(30) }));
  await expect(slow).rejects.toMatchObject({ code: "unavailable" });
  const controller = new AbortController();
  const stopped = send(request(server.host, { signal: controller.signal }));
  controller.abort();
  await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
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
  const made = Bun.spawnSync(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x -keyout - -out -".split(
      " ",
    ),
  );
  const pem = made.stdout.toString();
  expect(pem).toContain("CERTIFICATE");
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
