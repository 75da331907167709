import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { createLogger } from "./log.ts";
import { ServiceManager } from "./service-manager.ts";

/** Prints each message, and the content of the file that came with it. */
const LISTEN = `
import os, socket, sys
path = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\\0" + path[1:] if path[0] == "@" else path)
print("bound", flush=True)
for _ in range(3):
    data, fds, _, _ = socket.recv_fds(s, 4096, 4)
    print(data.decode().replace("\\n", " "), [os.read(fd, 6).decode() for fd in fds], flush=True)
`;

const directory = mkdtempSync(join(tmpdir(), "nydus-notify-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test.each([join(directory, "s"), `@nydus-${process.pid}`])(
  "ServiceManager tells %s, descriptors included",
  async (path) => {
    const listener = Bun.spawn(["python3", "-c", LISTEN, path], { stdout: "pipe" });
    const lines = listener.stdout.values();
    onTestFinished(() => listener.kill());
    const { value } = await lines.next();
    expect(Buffer.from(value ?? "").toString()).toMatch(/^bound/);
    const complaints: string[] = [];
    const log = createLogger((line) => complaints.push(line));
    const manager = ServiceManager.of({ NOTIFY_SOCKET: path }, log);
    const fd = openSync("/proc/version", "r");
    manager?.ready();
    manager?.put("fuse-1", fd);
    manager?.remove("fuse-1");
    closeSync(fd);
    expect(complaints).toEqual([]);
    await listener.exited;
    let text = "";
    for (let next = await lines.next(); next.done !== true; next = await lines.next())
      text += Buffer.from(next.value).toString();
    expect(text.trim().split("\n")).toEqual([
      "READY=1 []",
      "FDSTORE=1 FDNAME=fuse-1 FDPOLL=0 ['Linux ']",
      "FDSTOREREMOVE=1 FDNAME=fuse-1 []",
    ]);
  },
);

test("ServiceManager goes on when nobody listens", () => {
  const lines: string[] = [];
  const log = createLogger((line) => lines.push(line));
  ServiceManager.of({ NOTIFY_SOCKET: join(directory, "gone") }, log)?.ready();
  expect(lines.join("")).toContain("cannot talk to the service manager");
  expect(ServiceManager.of({}, log)).toBeUndefined();
});
