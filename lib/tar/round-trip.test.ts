import fc from "fast-check";
import { expect, test } from "vitest";
import type { ByteString } from "../base/byte-string.ts";
import { NydusError } from "../base/error.ts";
import { readTar, type TarHeader } from "./reader.ts";
import { type TarItem, writeTar } from "./writer.ts";

/** Any bytes but those a name cannot have. */
const bytes = (minLength: number, maxLength: number, without: RegExp): fc.Arbitrary<ByteString> =>
  fc
    .uint8Array({ minLength, maxLength })
    .map((array) => Buffer.from(array).toString("latin1").replace(without, "x") as ByteString);

const name = bytes(1, 140, /[/\0]/g);
const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join("/") as ByteString);
const xattrs = fc
  .array(fc.tuple(bytes(1, 60, /[=\0]/g), fc.uint8Array({ maxLength: 300 })), { maxLength: 3 })
  .map((pairs) => new Map(pairs));
const attributes = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.integer({ min: 0, max: 0xffff_ffff })),
  gid: fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.integer({ min: 0, max: 0xffff_ffff })),
  mtime: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
  mtimeNs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 999_999_999 })),
  xattrs,
});
const item: fc.Arbitrary<TarItem> = fc
  .tuple(
    attributes,
    path,
    fc.oneof(
      fc.record({ kind: fc.constant("file" as const), body: fc.uint8Array({ maxLength: 1200 }) }),
      fc.record({ kind: fc.constantFrom("symlink" as const, "hardlink" as const), linkTarget: path }),
      fc.record({
        kind: fc.constantFrom("char" as const, "block" as const),
        major: fc.integer({ min: 0, max: 4095 }),
        minor: fc.integer({ min: 0, max: 0xfffff }),
      }),
      fc.record({ kind: fc.constantFrom("directory" as const, "fifo" as const) }),
    ),
  )
  .map(([common, where, own]) => ({ ...common, ...own, path: where }));

async function* pieces(archive: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < archive.byteLength; at += size) yield archive.subarray(at, at + size);
}

async function written(items: TarItem[]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of writeTar(items)) parts.push(part);
  return Buffer.concat(parts);
}

async function read(archive: Uint8Array, size: number): Promise<(TarHeader & { bytes: string })[]> {
  const found: (TarHeader & { bytes: string })[] = [];
  for await (const { body, offset: _, dataOffset: __, ...header } of readTar(pieces(archive, size))) {
    const parts: Uint8Array[] = [];
    for await (const part of body) parts.push(part.slice());
    found.push({ ...header, bytes: Buffer.concat(parts).toString("hex") });
  }
  return found;
}

/** What reading must give for what was written. */
function expected(wanted: TarItem): TarHeader & { bytes: string } {
  const body = wanted.body instanceof Uint8Array ? wanted.body : new Uint8Array();
  const attributes = {
    mode: 0,
    uid: 0,
    gid: 0,
    mtime: 0,
    mtimeNs: 0,
    xattrs: new Map<ByteString, Uint8Array>(),
  };
  const own = { linkTarget: "" as ByteString, major: 0, minor: 0, size: body.byteLength };
  const { body: _, ...rest } = wanted;
  return { ...attributes, ...own, ...rest, bytes: Buffer.from(body).toString("hex") };
}

function plain(entries: readonly TarHeader[]): unknown {
  return entries.map(({ xattrs: map, ...rest }) => ({
    ...rest,
    xattrs: [...map].map(([key, value]) => [key, Buffer.from(value).toString("hex")]).sort(),
  }));
}

test("readTar() gives back whatever writeTar() was given", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(item, { maxLength: 5 }),
      fc.integer({ min: 1, max: 3000 }),
      async (items, size) => {
        expect(plain(await read(await written(items), size))).toEqual(plain(items.map(expected)));
      },
    ),
    { numRuns: 200 },
  );
});

/** Damage that a checksum would betray is found at once; made right, the fields themselves are put to the test. */
function repairChecksum(archive: Buffer, at: number): void {
  const block = archive.subarray(at - (at % 512), at - (at % 512) + 512);
  if (block.toString("latin1", 257, 262) !== "ustar") return;
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

test("readTar() meets damage with an error of its own or with other entries, never with another exception", async () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), {
    minLength: 1,
    maxLength: 6,
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(item, { minLength: 1, maxLength: 4 }),
      damage,
      fc.nat(),
      async (items, changes, cut) => {
        const archive = await written(items);
        for (const [at, value] of changes) archive[at % archive.byteLength] = value;
        if (cut % 2 === 0) for (const [at] of changes) repairChecksum(archive, at % archive.byteLength);
        const end = cut % 3 === 0 ? cut % archive.byteLength : archive.byteLength;
        try {
          await read(archive.subarray(0, end), 777);
        } catch (error) {
          expect(error).toBeInstanceOf(NydusError);
          expect((error as NydusError).message).toMatch(/^Cannot read /);
        }
      },
    ),
    { numRuns: 500 },
  );
});
