import { expect, test } from "vitest";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { isCode } from "../base/error.ts";
import { type TarItem, tarHeader, writeTar } from "./writer.ts";

async function tarOf(items: TarItem[]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of writeTar(items)) parts.push(part);
  return Buffer.concat(parts);
}

function text(header: Uint8Array, from: number, to: number): string {
  return Buffer.from(header.subarray(from, to)).toString("latin1");
}

const path = byteStringOf("image/image.boot");

test("tarHeader() writes an ordinary entry as one ustar block", () => {
  const header = tarHeader({ kind: "file", path, mode: 0o444, size: 3 });
  expect(header.byteLength).toBe(512);
  expect(text(header, 0, 17)).toBe("image/image.boot\0");
  expect(text(header, 100, 156)).toBe(
    "0000444\u00000000000\u00000000000\u000000000000003\u000000000000000\u0000012225\0 ",
  );
  expect(text(header, 156, 158)).toBe("0\0");
  expect(text(header, 257, 265)).toBe("ustar\u000000");
  expect(text(header, 329, 346)).toBe("0000000\u00000000000\0\0");
});

test("tarHeader() puts a long path into two fields when a slash lets it", () => {
  const long = byteStringOf(`${"d".repeat(120)}/${"f".repeat(90)}`);
  const header = tarHeader({ kind: "file", path: long });
  expect(header.byteLength).toBe(512);
  expect(text(header, 0, 91)).toBe(`${"f".repeat(90)}\0`);
  expect(text(header, 345, 466)).toBe(`${"d".repeat(120)}\0`);
});

test("tarHeader() writes what has no room as sorted PAX records with their own lengths", () => {
  const header = tarHeader({
    kind: "file",
    path: byteStringOf("x"),
    uid: 4_000_000_000,
    mtime: -2,
    mtimeNs: 250_000_000,
    size: 2 ** 34,
    xattrs: new Map([[byteStringOf("user.b"), Uint8Array.of(10, 0xff)]]),
  });
  const body = "26 SCHILY.xattr.user.b=\n\xff\n15 mtime=-1.75\n20 size=17179869184\n18 uid=4000000000\n";
  expect(text(header, 156, 157)).toBe("x");
  expect(text(header, 512, 512 + body.length)).toBe(body);
  expect(header.byteLength).toBe(3 * 512);
});

test("writeTar() pads bodies and ends with two zero blocks", async () => {
  const tar = await tarOf([
    { kind: "directory", path: byteStringOf("image"), mode: 0o755 },
    { kind: "file", path, body: Buffer.from("abc") },
  ]);
  expect(tar.byteLength).toBe(5 * 512);
  expect(text(tar, 1024, 1028)).toBe("abc\0");
  expect(tar.subarray(1536).every((byte) => byte === 0)).toBe(true);
});

test("writeTar() refuses a body that is longer or shorter than its size", async () => {
  for (const body of ["ab", "abcd"]) {
    const error = await tarOf([{ kind: "file", path, size: 3, body: Buffer.from(body) }]).catch(
      (e: unknown) => e,
    );
    expect(isCode(error, "corrupt")).toBe(true);
  }
});

test("tarHeader() refuses an xattr whose key PAX cannot hold", () => {
  const xattrs = new Map([["user.a=b" as ByteString, new Uint8Array(1)]]);
  expect(() => tarHeader({ kind: "file", path, xattrs })).toThrow('no form for its xattr "user.a=b"');
});
