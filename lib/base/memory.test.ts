import { expect, test } from "vitest";
import { release } from "./memory.ts";

test("release() takes an array's memory, but none that others look at too", () => {
  const own = new Uint8Array(1000);
  release(own);
  expect(own.byteLength).toBe(0);
  const pool = new Uint8Array(1000).fill(7);
  const part = pool.subarray(0, 999);
  release(part);
  expect(pool[0]).toBe(7);
  const shared = new Uint8Array(new SharedArrayBuffer(8));
  release(shared);
  expect(shared.byteLength).toBe(8);
});
