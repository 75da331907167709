import { closeSync, fstatSync, openSync, writeSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { receiveDescriptor, streamPair } from "./unix-socket.ts";

test("receiveDescriptor() says so when a message carries none", () => {
  const pair = streamPair();
  if (typeof pair === "number") throw new Error(`socketpair: ${pair}`);
  const [ours, theirs] = pair;
  onTestFinished(() => pair.forEach(closeSync));
  writeSync(theirs, "x");
  expect(receiveDescriptor(ours)).toBe(-74);
});

test("receiveDescriptor() gives the file that another process sent", async () => {
  const pair = streamPair();
  if (typeof pair === "number") throw new Error(`socketpair: ${pair}`);
  const [ours, theirs] = pair;
  const script =
    "import array, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=3); f = open('/proc/version');" +
    "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [f.fileno()]))])";
  const child = Bun.spawn(["python3", "-c", script], { stdio: ["ignore", "inherit", "inherit", theirs] });
  closeSync(theirs);
  const fd = receiveDescriptor(ours);
  onTestFinished(() => [ours, fd].forEach(closeSync));
  expect(await child.exited).toBe(0);
  const same = openSync("/proc/version", "r");
  expect(fstatSync(fd).ino).toBe(fstatSync(same).ino);
  closeSync(same);
});
