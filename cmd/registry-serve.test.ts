import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { quietLogger } from "../lib/base/log.ts";
import { silent } from "../lib/base/progress.ts";
import { type Context, parseCommandLine } from "./command.ts";
import { parseAddress, registryServe } from "./registry-serve.ts";

test.each([
  ["127.0.0.1:5000", "127.0.0.1", 5000],
  ["localhost:0", "localhost", 0],
  ["[::1]:5000", "::1", 5000],
])("parseAddress() reads %s", (text, hostname, port) => {
  expect(parseAddress(text)).toEqual({ hostname, port });
});

test.each(["", "5000", ":5000", "::1:5000", "localhost", "localhost:65536", "localhost:x", "a b:c:1"])(
  "parseAddress() refuses %j",
  (text) => {
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: "usage" }));
  },
);

test("registry serve prints its address and ends well when it is told to", async () => {
  const root = await mkdtemp(join(tmpdir(), "nydus-serve-"));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const controller = new AbortController();
  const printed = Promise.withResolvers<string>();
  const context: Context = {
    log: quietLogger,
    signal: controller.signal,
    progress: () => silent,
    print: printed.resolve,
    env: {},
  };
  const args = parseCommandLine(registryServe, ["--address", "127.0.0.1:0", root]);
  const running = registryServe.run(args, context);
  const host = await printed.promise;
  expect((await fetch(`http://${host}/v2/`)).status).toBe(200);
  controller.abort();
  await running;
  await expect(fetch(`http://${host}/v2/`)).rejects.toMatchObject({ code: "ECONNREFUSED" });
});
