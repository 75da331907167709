import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeFrame, FRAME_SIZE, readSections } from "./framing.ts";

const readAt = (file: Uint8Array) => async (offset: number, length: number) =>
  file.subarray(offset, offset + length);

const sections = fc.array(fc.tuple(fc.stringMatching(/^[a-z.]{1,20}$/), fc.uint8Array({ maxLength: 2000 })), {
  minLength: 1,
  maxLength: 8,
});

test("readSections() finds what was framed, in file order", async () => {
  await fc.assert(
    fc.asyncProperty(sections, async (list) => {
      const file = Buffer.concat(list.flatMap(([name, data]) => [data, encodeFrame(name, data.byteLength)]));
      const found = await readSections(readAt(file), file.byteLength);
      expect(found.map((s) => [s.name, new Uint8Array(file.subarray(s.offset, s.offset + s.size))])).toEqual(
        list.map(([name, data]) => [name, data]),
      );
    }),
  );
});

test("encodeFrame() writes sizes of 8 GiB and more in base 256, and readSections() reads them", async () => {
  const size = 2 ** 33 + 12345;
  const frame = encodeFrame("image.blob", size);
  expect(frame[124]).toBe(0x80);
  const found = await readSections(async () => frame, size + FRAME_SIZE);
  expect(found).toEqual([{ name: "image.blob", offset: 0, size }]);
});

test("encodeFrame() has the reference's fields", () => {
  const frame = Buffer.from(encodeFrame("image.blob", 2_995_743));
  expect(frame.toString("latin1", 0, 11)).toBe("image.blob\0");
  expect(frame.subarray(100, 124).every((byte) => byte === 0)).toBe(true);
  expect(frame.toString("latin1", 124, 136)).toBe("00013333037\0".padStart(12, "0"));
  expect(frame.toString("latin1", 136, 148)).toBe("00000000000\0");
  expect(frame.toString("latin1", 257, 265)).toBe("ustar  \0");
  expect(frame[156]).toBe(0x30);
});

test.each([
  ["a flipped bit in a header", (file: Uint8Array) => file.with(file.byteLength - 500, 1)],
  ["bytes before the first section", (file: Uint8Array) => Uint8Array.of(1, 2, ...file)],
  ["a cut header", (file: Uint8Array) => file.subarray(1)],
  ["nothing but zeros", () => new Uint8Array(4096)],
])("readSections() refuses %s", async (_, damage) => {
  const good = Buffer.concat([Buffer.from("data"), encodeFrame("a", 4)]);
  const file = damage(new Uint8Array(good));
  await expect(readSections(readAt(file), file.byteLength)).rejects.toMatchObject({ code: "corrupt" });
});

test("readSections() stops at a list too long to be meant", async () => {
  const file = Buffer.concat(Array.from({ length: 40 }, () => encodeFrame("a", 0)));
  await expect(readSections(readAt(file), file.byteLength)).rejects.toThrow("belong to none");
});
