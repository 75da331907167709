import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { IN, OUT } from "../../ffi/fuse.ts";
import { DelayedReply, FuseChannel } from "./fuse-channel.ts";

/** What a channel writes, through a file in the kernel's place. */
function written(work: (channel: FuseChannel) => void): DataView {
  const directory = mkdtempSync(join(tmpdir(), "nydus-channel-"));
  const path = join(directory, "replies");
  const fd = openSync(path, "w+");
  try {
    const channel = new FuseChannel(fd);
    new DataView(channel.request.buffer).setBigUint64(IN.UNIQUE, 0x0102_0304_0506_0708n, true);
    work(channel);
    const bytes = readFileSync(path);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true, force: true });
  }
}

test("FuseChannel.put64() stores every safe integer as the kernel reads it, negative times too", () => {
  for (const value of [
    0,
    1,
    -1,
    2 ** 32,
    2 ** 32 - 1,
    -(2 ** 32),
    -(2 ** 32) - 5,
    8589934592,
    Number.MAX_SAFE_INTEGER,
  ]) {
    const reply = written((channel) => {
      channel.put64(0, value);
      channel.send(8);
    });
    expect(reply.getBigInt64(OUT.SIZE, true)).toBe(BigInt(value));
  }
});

test("FuseChannel.sendError() answers the request it read last, with a negative errno", () => {
  const reply = written((channel) => channel.sendError(2));
  expect(reply.byteLength).toBe(OUT.SIZE);
  expect(reply.getUint32(OUT.LENGTH, true)).toBe(16);
  expect(reply.getInt32(OUT.ERROR, true)).toBe(-2);
  expect(reply.getBigUint64(OUT.UNIQUE, true)).toBe(0x0102_0304_0506_0708n);
});

test("DelayedReply.send() carries its data behind the header of its own request", () => {
  const reply = written((channel) => {
    const delayed = new DelayedReply(7, 1, 3);
    delayed.data.set([1, 2, 3]);
    delayed.send(channel.fd);
  });
  expect(reply.byteLength).toBe(19);
  expect(reply.getBigUint64(OUT.UNIQUE, true)).toBe(0x1_0000_0007n);
  expect([reply.getUint8(16), reply.getUint8(17), reply.getUint8(18)]).toEqual([1, 2, 3]);
});
