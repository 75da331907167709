import fc from "fast-check";
import { expect, test } from "vitest";
import { decryptXts, encryptXts } from "./xts.ts";

const hex = (text: string): Buffer => Buffer.from(text, "hex");
const encrypted = (key: string, iv: string, data: string): string =>
  Buffer.from(encryptXts(hex(key), hex(iv), hex(data))).toString("hex");

/** IEEE 1619-2007, annex B. */
test.each([
  [
    "1111111111111111111111111111111122222222222222222222222222222222",
    "33333333330000000000000000000000",
    "4444444444444444444444444444444444444444444444444444444444444444",
    "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
  ],
  [
    "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0",
    "9a785634120000000000000000000000",
    "000102030405060708090a0b0c0d0e0f10",
    "6c1625db4671522d3d7599601de7ca09ed",
  ],
  [
    "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0",
    "9a785634120000000000000000000000",
    "000102030405060708090a0b0c0d0e0f101112",
    "e5df1351c0544ba1350b3363cd8ef4beedbf9d",
  ],
])("encryptXts() gives the standard's vectors", (key, iv, data, expected) => {
  expect(encrypted(key, iv, data)).toBe(expected);
  expect(Buffer.from(decryptXts(hex(key), hex(iv), hex(expected))).toString("hex")).toBe(data);
});

test("decryptXts() undoes encryptXts() for any length", () => {
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const iv = fc.uint8Array({ minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(key, iv, fc.uint8Array({ minLength: 1, maxLength: 200 }), (k, i, data) => {
      const stored = encryptXts(k, i, data);
      expect(stored.byteLength).toBe(data.byteLength < 16 ? 18 : data.byteLength);
      expect(Buffer.from(decryptXts(k, i, stored)).equals(Buffer.from(data))).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test("decryptXts() refuses less than a block", () => {
  expect(() => decryptXts(new Uint8Array(32), new Uint8Array(16), new Uint8Array(15))).toThrow(
    expect.objectContaining({ code: "corrupt" }),
  );
});
