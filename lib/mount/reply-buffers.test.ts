import { expect, test } from "vitest";
import { OUT } from "../../ffi/fuse.ts";
import { ReplyBuffers } from "./reply-buffers.ts";

test("ReplyBuffers gives a buffer that was given back to whoever wants one as large, and to one at a time", () => {
  const buffers = new ReplyBuffers();
  const first = buffers.take(100_000);
  expect(first.byteLength).toBeGreaterThanOrEqual(OUT.SIZE + 100_000);
  expect(buffers.take(100_000)).not.toBe(first);
  buffers.giveBack(first);
  expect(buffers.take(1 << 20)).not.toBe(first);
  expect(buffers.take(120_000)).toBe(first);
  expect(buffers.take(0).byteLength).toBeGreaterThanOrEqual(OUT.SIZE);
});

test("ReplyBuffers keeps four megabytes of them", () => {
  const buffers = new ReplyBuffers();
  const taken = new Set(Array.from({ length: 16 }, () => buffers.take(1 << 20)));
  for (const buffer of taken) buffers.giveBack(buffer);
  const again = Array.from({ length: 16 }, () => buffers.take(1 << 20));
  expect(again.filter((buffer) => taken.has(buffer)).length).toBe(3);
});
