import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { byteStringOf } from "../base/byte-string.ts";
import { HEADER } from "../tar/header.ts";
import { type TarItem, writeTar } from "../tar/writer.ts";
import { TarIndex } from "./tar-index.ts";

let root = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "nydus-tar-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function indexed(archive: Uint8Array): Promise<TarIndex> {
  const path = join(root, "a.tar");
  await writeFile(path, archive);
  await using file = await open(path);
  return await TarIndex.read(file, path);
}

async function tarOf(items: readonly TarItem[]): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeTar(items)));
}

function file(name: string, body: string): TarItem {
  return { kind: "file", path: byteStringOf(name), body: Buffer.from(body) };
}

function link(kind: "symlink" | "hardlink", name: string, target: string): TarItem {
  return { kind, path: byteStringOf(name), linkTarget: byteStringOf(target) };
}

/** What the index says a name holds. */
async function content(items: readonly TarItem[], name: string): Promise<string | undefined> {
  const archive = await tarOf(items);
  const found = (await indexed(archive)).get(name);
  return found === undefined ? undefined : archive.toString("utf8", found.offset, found.offset + found.size);
}

const LONG = `${"directory/".repeat(30)}file`;

test.each([
  ["a plain name", "a", "a"],
  ["a name with dots", "./a/b", "a/b"],
  ["a name that does not fit the header", LONG, LONG],
  ["a name asked for with dots", "a", "./a"],
])("TarIndex.get() finds %s", async (_what, stored, asked) => {
  expect(
    await content([file("before", "x".repeat(1000)), file(stored, "it"), file("after", "y")], asked),
  ).toBe("it");
});

test("TarIndex.get() finds the last of two files with one name", async () => {
  expect(await content([file("a", "old"), file("a", "new")], "a")).toBe("new");
});

test.each([
  ["a symbolic link beside it", link("symlink", "d/l", "f")],
  ["a symbolic link from elsewhere", link("symlink", "d/l", "../d/./f")],
  ["a hard link", link("hardlink", "d/l", "d/f")],
])("TarIndex.get() follows %s", async (_what, item) => {
  expect(await content([file("d/f", "it"), item], "d/l")).toBe("it");
});

test.each([
  ["a link to nothing", [link("symlink", "l", "none")]],
  ["a link to itself", [link("symlink", "l", "l")]],
  ["links in a circle", [link("symlink", "l", "m"), link("symlink", "m", "l")]],
  ["a link out of the archive", [link("symlink", "l", "../../../etc/passwd")]],
  ["a directory", [{ kind: "directory", path: byteStringOf("l/") } as const]],
])("TarIndex.get() finds nothing behind %s", async (_what, items) => {
  expect(await content([...items, file("etc/other", "x")], "l")).toBeUndefined();
});

test("TarIndex reads what GNU tar writes for long names and large sizes", async () => {
  const header = await tarOf([file("short", "it")]);
  const long = await tarOf([file("x", `${LONG}\0`)]);
  long.write("L", HEADER.type.offset, "latin1");
  withChecksum(long);
  // Base-256: the first bit set, then the number, big endian.
  header.fill(0, HEADER.size.offset, HEADER.size.offset + HEADER.size.size);
  header[HEADER.size.offset] = 0x80;
  header[HEADER.size.offset + HEADER.size.size - 1] = 2;
  withChecksum(header);
  const archive = Buffer.concat([long.subarray(0, 1024), header]);
  const found = (await indexed(archive)).get(LONG);
  expect(archive.toString("utf8", found?.offset, (found?.offset ?? 0) + (found?.size ?? 0))).toBe("it");
});

function withChecksum(block: Buffer): void {
  const { offset, size } = HEADER.checksum;
  block.fill(" ", offset, offset + size);
  const sum = block.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, offset, "latin1");
}

test("TarIndex fails with corrupt when a size is negative or past the end", async () => {
  for (const number of [
    [0xff, 0xff],
    [0x80, 0x01],
  ]) {
    const archive = await tarOf([file("a", "it")]);
    archive.fill(number[0] ?? 0, HEADER.size.offset, HEADER.size.offset + HEADER.size.size);
    archive.fill(number[1] ?? 0, HEADER.size.offset + 1, HEADER.size.offset + HEADER.size.size);
    withChecksum(archive);
    await expect(indexed(archive)).rejects.toMatchObject({ code: "corrupt" });
  }
});

test("TarIndex gives places inside the file or fails with corrupt, whatever was damaged", async () => {
  const whole = await tarOf([file("a", "first"), file(LONG, "second"), link("symlink", "l", "a")]);
  const damage = fc.record({
    at: fc.nat(whole.byteLength - 1),
    byte: fc.nat(255),
    end: fc.integer({ min: 0, max: whole.byteLength }),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ at, byte, end }) => {
      const archive = Buffer.from(whole);
      archive[at] = byte;
      const cut = archive.subarray(0, end);
      try {
        const index = await indexed(cut);
        for (const name of ["a", LONG, "l"]) {
          const found = index.get(name);
          if (found !== undefined) expect(found.offset + found.size).toBeLessThanOrEqual(cut.byteLength);
        }
      } catch (error) {
        expect(error).toMatchObject({ code: "corrupt" });
      }
    }),
  );
});
