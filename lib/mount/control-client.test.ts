import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { ControlClient } from "./control-client.ts";

/** A process that dies after these bytes of its answer. */
async function dyingAfter(bytes: string): Promise<ControlClient> {
  const directory = mkdtempSync(join(tmpdir(), "nydus-client-"));
  const socket = join(directory, "s");
  const server = createServer((connection) => {
    connection.on("error", () => {});
    connection.once("data", () => connection.end(bytes));
  });
  await new Promise<void>((done) => server.listen(socket, done));
  onTestFinished(() => {
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return new ControlClient(socket);
}

const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

test("ControlClient takes a process that dies in the middle of its answer for one that is not there", async () => {
  for (const answer of [
    "",
    "HTTP/1.1 200",
    `${HEAD}Content-Length: 100\r\n\r\n{"pid": 1`,
    `${HEAD}Transfer-Encoding: chunked\r\n\r\n9\r\n{"pid": 1\r\n`,
  ]) {
    const client = await dyingAfter(answer);
    await expect(client.ping(), answer).rejects.toMatchObject({ code: "unavailable" });
  }
});

test("ControlClient.gone() tells a process that died from one that is ending", async () => {
  const died = await dyingAfter(`${HEAD}Transfer-Encoding: chunked\r\n\r\n6\r\nalive\n\r\n`);
  expect(await died.gone()).toBe("died");
  const body = '{"code":"unavailable","message":"it is ending"}';
  const ending = await dyingAfter(
    `HTTP/1.1 503 X\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await expect(ending.gone()).rejects.toMatchObject({ code: "unavailable", message: "it is ending" });
});
