import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { NydusError } from "../base/error.ts";
import { readTar, type TarHeader } from "./reader.ts";
import { type TarItem, tarHeader, tarPadding, writeTar } from "./writer.ts";

interface Read extends TarHeader {
  readonly text: string;
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

async function readAll(bytes: Uint8Array, size = 64 * 1024): Promise<Read[]> {
  const found: Read[] = [];
  for await (const { body, offset: _, ...header } of readTar(pieces(bytes, size))) {
    const parts: Uint8Array[] = [];
    for await (const part of body) parts.push(part.slice());
    found.push({ ...header, text: Buffer.concat(parts).toString("latin1") });
  }
  return found;
}

async function tarOf(items: TarItem[]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of writeTar(items)) parts.push(part);
  return Buffer.concat(parts);
}

async function failure(bytes: Uint8Array): Promise<NydusError> {
  const error = await readAll(bytes).catch((e: unknown) => e);
  if (error instanceof NydusError) return error;
  throw new Error(`expected a NydusError, got ${JSON.stringify(error)}`);
}

const b = byteStringOf;
const file = (path: string, body: string | Uint8Array, rest: Partial<TarItem> = {}): TarItem => ({
  kind: "file",
  path: b(path),
  body: typeof body === "string" ? Buffer.from(body) : body,
  ...rest,
});

/** A header block with some bytes changed and the checksum put right. */
function patched(block: Uint8Array, changes: Readonly<Record<number, string>>): Buffer {
  const copy = Buffer.from(block);
  for (const [at, text] of Object.entries(changes)) copy.write(text, Number(at), "latin1");
  copy.fill(" ", 148, 156);
  const sum = copy.reduce((total, byte) => total + byte, 0);
  copy.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return copy;
}

const END = new Uint8Array(1024);
const plain = (path = "x", rest: Partial<TarItem> = {}): Uint8Array =>
  tarHeader({ kind: "file", path: b(path), ...rest });
const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, tarPadding(bytes.byteLength)]);
const pax = (records: string, type = "x"): Buffer =>
  Buffer.concat([
    patched(plain("pax", { size: Buffer.byteLength(records, "latin1") }), { 156: type }),
    padded(Buffer.from(records, "latin1")),
  ]);

test("readTar() reads what GNU tar writes in each of its formats", async () => {
  const dir = mkdtempSync(join(tmpdir(), "tar-"));
  try {
    const deep = `${"d".repeat(45)}/${"e".repeat(48)}`;
    mkdirSync(join(dir, deep), { recursive: true });
    writeFileSync(join(dir, deep, "file"), "content", { mode: 0o640 });
    utimesSync(join(dir, deep, "file"), 1_600_000_000, 1_600_000_000);
    linkSync(join(dir, deep, "file"), join(dir, deep, "hard-and-longer"));
    symlinkSync("../target", join(dir, deep, "soft"));
    for (const format of ["ustar", "gnu", "posix"]) {
      const tar = execFileSync("tar", [
        "-C",
        dir,
        "--sort=name",
        `--format=${format}`,
        "-cf",
        "-",
        "d".repeat(45),
      ]);
      const found = await readAll(tar, 1000);
      expect(found.map(({ kind, path }) => [kind, path])).toEqual([
        ["directory", `${"d".repeat(45)}/`],
        ["directory", `${deep}/`],
        ["file", `${deep}/file`],
        ["hardlink", `${deep}/hard-and-longer`],
        ["symlink", `${deep}/soft`],
      ]);
      expect(found[2]).toMatchObject({ text: "content", mode: 0o640, mtime: 1_600_000_000, size: 7 });
      expect(found[3]).toMatchObject({ linkTarget: `${deep}/file`, size: 0 });
      expect(found[4]).toMatchObject({ linkTarget: "../target", mode: 0o777 });
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("readTar() reads GNU long names, long link targets and base-256 numbers", async () => {
  const dir = mkdtempSync(join(tmpdir(), "tar-"));
  try {
    const name = "n".repeat(250);
    writeFileSync(join(dir, name), "x");
    symlinkSync("t".repeat(300), join(dir, "link"));
    const owner = ["--owner=:4000000000", "--group=:3000000000", "--mtime=@8589934592"];
    const tar = execFileSync("tar", ["-C", dir, "--format=gnu", ...owner, "-cf", "-", name, "link"]);
    const [first, second] = await readAll(tar);
    expect(first).toMatchObject({ path: name, uid: 4e9, gid: 3e9, mtime: 8_589_934_592, text: "x" });
    expect(second).toMatchObject({ path: "link", linkTarget: "t".repeat(300) });
    const early = execFileSync("tar", ["-C", dir, "--format=gnu", "--mtime=@-86400", "-cf", "-", "link"]);
    expect((await readAll(early))[0]).toMatchObject({ mtime: -86_400 });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("readTar() keeps every byte of binary xattrs", async () => {
  const value = Uint8Array.of(0x0a, 0x80, 0xff, 0, 0x3d, 0x0a);
  const xattrs = new Map([
    [b("security.capability"), value],
    [b("user.empty"), new Uint8Array()],
  ]);
  const [entry] = await readAll(await tarOf([file("x", "", { xattrs })]), 700);
  expect([...(entry?.xattrs ?? [])].map(([key, v]) => [key, Buffer.from(v).toString("hex")])).toEqual([
    ["security.capability", "0a80ff003d0a"],
    ["user.empty", ""],
  ]);
});

test("readTar() applies global PAX headers to all later entries, and an entry's own over them", async () => {
  const tar = Buffer.concat([
    pax("12 uid=1234\n20 mtime=1700000000\n", "g"),
    plain("a"),
    pax("9 uid=77\n"),
    plain("b"),
    plain("c"),
    END,
  ]);
  const found = await readAll(tar);
  expect(found.map(({ path, uid, mtime }) => [path, uid, mtime])).toEqual([
    ["a", 1234, 1_700_000_000],
    ["b", 77, 1_700_000_000],
    ["c", 1234, 1_700_000_000],
  ]);
});

test("readTar() takes PAX times with fractions, before 1970 and past 32 bits", async () => {
  const cases: [string, number, number][] = [
    ["1700000000.25", 1_700_000_000, 250_000_000],
    ["8589934592", 8_589_934_592, 0],
    ["-1.5", -2, 500_000_000],
    ["-3", -3, 0],
    ["0.0000000019", 0, 1],
  ];
  for (const [text, mtime, mtimeNs] of cases) {
    const record = ` mtime=${text}\n`;
    const length = record.length + (record.length > 7 ? 2 : 1);
    const [entry] = await readAll(Buffer.concat([pax(`${length}${record}`), plain(), END]));
    expect([text, entry?.mtime, entry?.mtimeNs]).toEqual([text, mtime, mtimeNs]);
  }
});

test("readTar() reads v7 headers, whose directories end with a slash, and blank device fields", async () => {
  const v7 = (path: string): Buffer =>
    patched(plain(path), { 156: "\0", 257: "\0".repeat(8), 329: " ".repeat(8), 337: "\0".repeat(8) });
  const found = await readAll(Buffer.concat([v7("dir/"), v7("dir/file"), END]));
  expect(found.map(({ kind, path }) => [kind, path])).toEqual([
    ["directory", "dir/"],
    ["file", "dir/file"],
  ]);
  const spaced = patched(plain(), { 100: "   644 \0", 108: "  1750 \0" });
  expect((await readAll(Buffer.concat([spaced, END])))[0]).toMatchObject({ mode: 0o644, uid: 0o1750 });
});

test("readTar() skips bodies that nobody reads, whatever the pieces' size", async () => {
  const tar = await tarOf([file("a", "x".repeat(5000)), file("b", ""), file("c", "y".repeat(512))]);
  for (const size of [1, 511, 512, 513, 100_000]) {
    const paths: string[] = [];
    for await (const { path } of readTar(pieces(tar, size))) paths.push(path);
    expect(paths).toEqual(["a", "b", "c"]);
  }
});

test("readTar() ignores what follows the end marker, but reads the source to its end", async () => {
  const tar = Buffer.concat([await tarOf([file("a", "1")]), Buffer.alloc(9000, "rubbish")]);
  let seen = 0;
  const source = async function* (): AsyncGenerator<Uint8Array> {
    for await (const piece of pieces(tar, 1000)) {
      seen += piece.byteLength;
      yield piece;
    }
  };
  const paths: string[] = [];
  for await (const { path } of readTar(source())) paths.push(path);
  expect(paths).toEqual(["a"]);
  expect(seen).toBe(tar.byteLength);
});

test("readTar() closes the source when its reader stops early", async () => {
  let closed = false;
  const source = async function* (): AsyncGenerator<Uint8Array> {
    try {
      yield* pieces(await tarOf([file("a", "1"), file("b", "2")]), 512);
    } finally {
      closed = true;
    }
  };
  for await (const _ of readTar(source())) break;
  expect(closed).toBe(true);
});

test("readTar() refuses an archive that ends inside an entry, naming it and where", async () => {
  const tar = await tarOf([file("etc/first", "x"), file("etc/second", "y".repeat(1000))]);
  const body = await failure(tar.subarray(0, 1024 + 512 + 600));
  expect(body.code).toBe("corrupt");
  expect(body.message).toBe(
    'Cannot read tar entry "etc/second" at offset 1024: the archive ends inside its 1000 bytes',
  );
  expect((await failure(tar.subarray(0, 1024 + 100))).message).toBe(
    "Cannot read the tar: it ends inside the header at offset 1024",
  );
  expect((await failure(tar.subarray(0, 1024 + 512 + 1000))).message).toContain("the archive ends inside");
});

test("readTar() forgives a missing end marker only", async () => {
  const tar = await tarOf([file("a", "1")]);
  expect(await readAll(tar.subarray(0, 1024))).toHaveLength(1);
  expect(await readAll(tar.subarray(0, 1536))).toHaveLength(1);
  expect(await readAll(new Uint8Array())).toEqual([]);
  const lone = Buffer.concat([new Uint8Array(512), plain(), END]);
  expect((await failure(lone)).message).toBe("Cannot read the tar: a lone zero block at offset 0");
});

const bad: [name: string, tar: () => Buffer, code: string, message: string][] = [
  [
    "a wrong checksum",
    () => Buffer.concat([Buffer.from(plain()).fill("y", 0, 1), END]),
    "corrupt",
    'entry "y" at offset 0: its header checksum is wrong',
  ],
  ["rubbish", () => Buffer.alloc(2048, 0x41), "corrupt", "at offset 0: its header checksum is wrong"],
  [
    "a size that is no number",
    () => Buffer.concat([patched(plain(), { 124: "123456x8901\0" }), END]),
    "corrupt",
    "its size is not a number",
  ],
  [
    "a negative size",
    () => Buffer.concat([patched(plain(), { 124: "\xff".repeat(12) }), END]),
    "corrupt",
    "its size -1 is negative",
  ],
  [
    "an absurd size",
    () => Buffer.concat([patched(plain(), { 124: `\x80${"\0".repeat(5)}\x10${"\0".repeat(5)}` }), END]),
    "corrupt",
    "the archive ends inside its 17592186044416 bytes",
  ],
  [
    "a size past 2^53",
    () => Buffer.concat([patched(plain(), { 124: `\x80${"\x7f".repeat(11)}` }), END]),
    "corrupt",
    "its size is not a number",
  ],
  [
    "an owner past 32 bits",
    () => Buffer.concat([pax("18 uid=4294967296\n"), plain(), END]),
    "corrupt",
    "its uid 4294967296 does not fit 32 bits",
  ],
  [
    "an unknown type",
    () => Buffer.concat([patched(plain(), { 156: "V" }), END]),
    "unsupported",
    'entries of type "V" are not files',
  ],
  [
    "a GNU sparse file",
    () => Buffer.concat([patched(plain(), { 156: "S" }), END]),
    "unsupported",
    "it is stored as a GNU sparse file",
  ],
  [
    "a PAX sparse file",
    () => Buffer.concat([pax("22 GNU.sparse.major=1\n"), plain(), END]),
    "unsupported",
    "it is stored as a GNU sparse file",
  ],
  ["no name", () => Buffer.concat([patched(plain(), { 0: "\0" }), END]), "corrupt", "it has no name"],
  [
    "a NUL in a PAX path",
    () => Buffer.concat([pax("12 path=a\0b\n"), plain(), END]),
    "corrupt",
    "its PAX path contains a NUL",
  ],
  [
    "a PAX length that lies",
    () => Buffer.concat([pax("99 path=ab\n"), plain(), END]),
    "corrupt",
    "its PAX record at byte 0 has a wrong length",
  ],
  [
    "a PAX record without end",
    () => Buffer.concat([pax("10 path=abc"), plain(), END]),
    "corrupt",
    "its PAX record at byte 0 has a wrong length",
  ],
  [
    "a PAX record without value",
    () => Buffer.concat([pax("7 path\n"), plain(), END]),
    "corrupt",
    "its PAX record at byte 0 has no value",
  ],
  [
    "a PAX size that is no number",
    () => Buffer.concat([pax("12 size=1e9\n"), plain(), END]),
    "corrupt",
    'its PAX size "1e9" is not a number',
  ],
  [
    "an extended header of 2 MiB",
    () => Buffer.concat([patched(plain("p", { size: 2 ** 21 }), { 156: "x" }), END]),
    "corrupt",
    "its extended header has 2097152 bytes",
  ],
  [
    "an extended header cut short",
    () => patched(plain("p", { size: 600 }), { 156: "x" }),
    "corrupt",
    "the archive ends inside its extended header",
  ],
  ["an extended header for nothing", () => pax("9 uid=77\n"), "corrupt", "it ends behind an extended header"],
];

test.each(bad)("readTar() refuses %s", async (_, tar, code, message) => {
  const error = await failure(tar());
  expect([error.code, error.message]).toEqual([code, expect.stringContaining(message)]);
});

test("readTar() refuses extended headers without end", async () => {
  const record = `1000000 ${"k".repeat(10)}=${"v".repeat(1_000_000 - 20)}\n`;
  expect(record).toHaveLength(1_000_000);
  for (const type of ["x", "g"]) {
    const error = await failure(Buffer.concat([...Array(5).fill(pax(record, type)), plain(), END]));
    expect(error.message).toContain("its extended headers have more than 4194304 bytes");
  }
});

test("readTar() names the entry by its long name in errors", async () => {
  const long = "p/".repeat(80);
  const records = `${long.length + 10} path=${long}\n`;
  const error = await failure(Buffer.concat([pax(records), patched(plain(), { 108: "x" }), END]));
  expect(error.message).toContain(`tar entry "${long}" at offset 1024: its uid is not a number`);
});

test("readTar() stops when its signal fires", async () => {
  const controller = new AbortController();
  const tar = await tarOf([file("a" as ByteString, "x".repeat(10_000)), file("b", "y")]);
  const read = async (): Promise<void> => {
    for await (const _ of readTar(pieces(tar, 512), { signal: controller.signal }))
      controller.abort(new NydusError("cancelled", "Cannot go on: interrupted"));
  };
  await expect(read()).rejects.toMatchObject({ code: "cancelled" });
});
