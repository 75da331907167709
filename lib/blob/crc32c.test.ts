import { expect, test } from "vitest";
import { crc32c } from "./crc32c.ts";

const text = (value: string): Uint8Array => Buffer.from(value, "latin1");

test("crc32c() has the catalogue's check value", () => {
  expect(crc32c(text("123456789"))).toBe(0xe306_9283);
});

test("crc32c() gives the vectors of RFC 3720 B.4", () => {
  expect(crc32c(new Uint8Array(32))).toBe(0x8a91_36aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8_ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd_794e);
});

test("crc32c() of nothing is 0, and every length modulo 8 works", () => {
  expect(crc32c(new Uint8Array())).toBe(0);
  const slow = (data: Uint8Array): number => {
    let crc = ~0;
    for (const byte of data) {
      crc ^= byte;
      for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
    }
    return ~crc >>> 0;
  };
  for (let length = 0; length < 40; length++) {
    const data = Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 0xff);
    expect(crc32c(data)).toBe(slow(data));
  }
});
