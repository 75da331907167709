import { expect, test } from "vitest";
import { decryptXts } from "../base/xts.ts";
import { cipherFor, encrypted } from "./cipher.ts";

test("cipherFor() gives one key for one secret and format, and others for others", () => {
  const key = (secret: string | undefined, format: string): string =>
    Buffer.from(cipherFor(secret, format).key).toString("hex");
  expect(key("a", "zstd")).toBe(key("a", "zstd"));
  expect(new Set([key("a", "zstd"), key("b", "zstd"), key("a", "none"), key(undefined, "zstd")]).size).toBe(
    4,
  );
  expect(cipherFor("a", "zstd").iv.byteLength).toBe(16);
});

test("encrypted() can be undone for every size up to three blocks", () => {
  const cipher = cipherFor("a", "zstd");
  for (let size = 1; size <= 48; size++) {
    const bytes = new Uint8Array(size).fill(size);
    const stored = encrypted(cipher, bytes);
    expect(stored.byteLength).toBe(size < 16 ? 18 : size);
    expect(Buffer.compare(decryptXts(cipher.key, cipher.iv, stored), bytes)).toBe(0);
  }
  expect(encrypted(undefined, Buffer.from("plain")).toString()).toBe("plain");
});

test("encrypted() refuses bytes that decrypting would take for padding", () => {
  const bytes = new Uint8Array(18).fill(3);
  bytes.set([0x78, 0x90], 16);
  expect(() => encrypted(cipherFor("a", "zstd"), bytes)).toThrow("look like padding");
  bytes.set([0x78, 0x91], 16);
  expect(() => encrypted(cipherFor("a", "zstd"), bytes)).not.toThrow();
});
